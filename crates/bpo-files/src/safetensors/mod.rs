//! Where the tensors of safetensors files lie.

mod header;
mod index;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use safetensors::Dtype;

use crate::Error;
use header::{read_header, spans};

/// Tensors by name.
pub type Entries = BTreeMap<String, Entry>;

/// Where a tensor lies and what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The file, or the name given to bytes in memory.
    pub file: Arc<Path>,
    /// What its numbers are.
    pub dtype: Dtype,
    /// Its shape; the elements are row-major.
    pub shape: Vec<usize>,
    /// First byte in the file.
    pub start: u64,
    /// Bytes.
    pub length: usize,
}

/// Opens `DIR/model.safetensors`, or the shards of `DIR/model.safetensors.index.json`.
///
/// # Errors
/// [`Error::Io`], [`Error::Safetensors`], [`Error::Json`]; [`Error::Shard`] for an index that leaves the directory
/// or disagrees with its shards.
pub fn open(dir: &Path) -> Result<Entries, Error> {
    let single = dir.join("model.safetensors");
    let index = dir.join("model.safetensors.index.json");
    if !single.exists() && index.exists() {
        return index::open(dir, &index);
    }
    if !single.exists() && dir.join("pytorch_model.bin").exists() {
        let reason = "it holds pickled weights (pytorch_model.bin), which are never read; convert to safetensors";
        return Err(Error::Safetensors { path: dir.to_path_buf(), reason: reason.into() });
    }
    open_file(&single)
}

/// Opens one safetensors file.
///
/// # Errors
/// [`Error::Io`], [`Error::Safetensors`].
pub fn open_file(path: &Path) -> Result<Entries, Error> {
    read_header(path)
}

/// The tensors of a safetensors file in memory; `name` stands for it in errors.
///
/// # Errors
/// [`Error::Safetensors`].
pub fn in_memory(name: &str, bytes: &[u8]) -> Result<Entries, Error> {
    spans(Path::new(name), bytes, bytes.len() as u64)
}

#[cfg(test)]
mod tests;
