//! GGUF files of versions 2 and 3: metadata, and where every tensor lies.
//!
//! The format is that of ggml's `docs/gguf.md`: a header of typed key-value pairs, the names of tensors, and their data.

mod blocks;
mod header;
mod kind;
mod reader;
mod value;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

pub use kind::Kind;
pub use value::{Texts, Value};

use crate::{Error, whole};

/// The first bytes of every GGUF file.
const MAGIC: &[u8; 4] = b"GGUF";

/// What the header of a GGUF file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    /// The file.
    pub path: PathBuf,
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// Key-value pairs.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Where a tensor lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// How its values are stored.
    pub kind: Kind,
    /// Sizes, the slowest dimension first, as everywhere outside of ggml.
    pub shape: Vec<usize>,
    /// Offset of its first byte in the file.
    pub start: u64,
    /// Bytes.
    pub length: usize,
}

/// Reads the header of a GGUF file.
///
/// # Errors
/// [`Error::Io`]; [`Error::Gguf`] for a file of another kind or version, a damaged or cut one, and a tensor whose type is
/// not one of [`Kind`].
pub fn open(path: &Path) -> Result<Gguf, Error> {
    let file = whole::open_regular(path)?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    header::read(path, BufReader::new(file), size)
}

/// As [`open`], of bytes in memory; `name` stands for them in errors.
///
/// # Errors
/// [`Error::Gguf`].
pub fn in_memory(name: &str, bytes: &[u8]) -> Result<Gguf, Error> {
    header::read(Path::new(name), bytes, bytes.len() as u64)
}

/// Whether a path is a file that begins as a GGUF file does.
pub fn is_one(path: &Path) -> bool {
    let mut first = [0; MAGIC.len()];
    let mut read = || File::open(path).and_then(|mut file| file.read_exact(&mut first));
    path.is_file() && read().is_ok() && &first == MAGIC
}

impl Gguf {
    /// The family of models, `general.architecture`.
    ///
    /// # Errors
    /// [`Error::Gguf`] when it is missing or no text.
    pub fn architecture(&self) -> Result<&str, Error> {
        const KEY: &str = "general.architecture";
        self.text(KEY)?.ok_or_else(|| self.error(format!("it has no {KEY}")))
    }

    /// A text.
    ///
    /// # Errors
    /// [`Error::Gguf`] when the value is of another type.
    pub fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A whole number from 0 on. A list of equal numbers, which some files have for their layers, is that number.
    ///
    /// # Errors
    /// [`Error::Gguf`] when the value is of another type, negative, or differs between layers.
    pub fn size(&self, key: &str) -> Result<Option<usize>, Error> {
        self.typed(key, "a whole number, the same for all layers", |value| match value {
            Value::Integer(number) => usize::try_from(*number).ok(),
            Value::Integers(list) => {
                let first = list.first().filter(|first| list.iter().all(|number| number == *first));
                usize::try_from(*first?).ok()
            }
            _ => None,
        })
    }

    /// A number.
    ///
    /// # Errors
    /// [`Error::Gguf`] when the value is of another type or not finite.
    pub fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.typed(key, "a finite number", |value| match value {
            Value::Float(number) => Some(*number).filter(|number| number.is_finite()),
            Value::Integer(number) => Some(*number as f64),
            _ => None,
        })
    }

    /// Yes or no.
    ///
    /// # Errors
    /// [`Error::Gguf`] when the value is of another type.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A list of texts.
    ///
    /// # Errors
    /// [`Error::Gguf`] when the value is of another type.
    pub fn texts(&self, key: &str) -> Result<Option<&Texts>, Error> {
        self.typed(key, "a list of texts", |value| match value {
            Value::Texts(texts) => Some(texts),
            _ => None,
        })
    }

    /// A list of whole numbers.
    ///
    /// # Errors
    /// [`Error::Gguf`] when the value is of another type.
    pub fn integers(&self, key: &str) -> Result<Option<&[i64]>, Error> {
        self.typed(key, "a list of whole numbers", |value| match value {
            Value::Integers(list) => Some(list.as_slice()),
            _ => None,
        })
    }

    /// A list of numbers.
    ///
    /// # Errors
    /// [`Error::Gguf`] when the value is of another type.
    pub fn floats(&self, key: &str) -> Result<Option<&[f64]>, Error> {
        self.typed(key, "a list of numbers", |value| match value {
            Value::Floats(list) => Some(list.as_slice()),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.error(format!("{key} must be {expected}")))
    }

    /// An error about this file.
    pub fn error(&self, reason: String) -> Error {
        Error::Gguf { path: self.path.clone(), reason }
    }
}

#[cfg(test)]
mod tests;
