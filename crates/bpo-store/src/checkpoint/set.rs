//! One set of files, verified against its manifest.

use std::path::{Path, PathBuf};

use super::manifest::{self, Entry, Found, Manifest};
use crate::io::{self, Io};
use crate::{Error, name};

/// A checkpoint that was intact when it was opened.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The step after which it was saved.
    pub step: u64,
    io: Io,
    folder: PathBuf,
    files: Vec<Entry>,
}

/// Bytes that a manifest has at most: it is read as a whole.
const LONGEST: u64 = 1 << 24;

/// Why a set cannot be used.
pub(super) enum Fault {
    /// It is not what was saved.
    Damaged(String),
    /// It could not be looked at, or is of another version.
    Error(Error),
}

impl Checkpoint {
    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The names of its files, in the order in which they were saved.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|entry| entry.name.as_str())
    }

    /// The bytes of a file, checked once more.
    ///
    /// # Errors
    /// [`Error::CheckpointFile`] when it has no such file, [`Error::CheckpointDamaged`] when
    /// the file changed since the checkpoint was opened, and [`Error::Io`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let Some(entry) = self.files.iter().find(|entry| entry.name == name) else {
            return Err(Error::CheckpointFile { path: self.folder.clone(), name: name.to_owned() });
        };
        let path = self.folder.join(name);
        let bytes = self.io.read(&path)?;
        let length = bytes.len() as u64;
        match mismatch(entry, &blake3::hash(&bytes), length) {
            None => Ok(bytes),
            Some(reason) => Err(Error::CheckpointDamaged { path, reason }),
        }
    }
}

/// Opens the set of a step if it is exactly what its manifest says.
pub(super) fn verify(io: &Io, folder: &Path, step: u64) -> Result<Checkpoint, Fault> {
    let damaged = |reason: String| Err(Fault::Damaged(reason));
    let path = folder.join(manifest::FILE);
    if !io::is_plain_file(&path) {
        return damaged(format!("{} is missing", manifest::FILE));
    }
    if io::length(&path) > LONGEST {
        return damaged(format!("{} is longer than any manifest", manifest::FILE));
    }
    let manifest = match Manifest::read(&io.read(&path).map_err(Fault::Error)?) {
        Found::Manifest(manifest) => manifest,
        Found::Damaged(reason) => return damaged(reason),
        Found::OtherFormat(format) => {
            let path = folder.to_owned();
            return Err(Fault::Error(Error::CheckpointFormat { path, format }));
        }
    };
    if manifest.step != step {
        return damaged(format!("its manifest is that of step {}", manifest.step));
    }
    for entry in &manifest.files {
        verify_file(io, folder, entry)?;
    }
    let is_named = |name: &String| name == manifest::FILE || manifest.files.iter().any(|entry| entry.name == *name);
    // Hidden ones are left by file managers and network file systems.
    let is_extra = |name: &String| !name.starts_with('.') && !is_named(name);
    if let Some(extra) = io.names(folder).map_err(Fault::Error)?.into_iter().find(is_extra) {
        return damaged(format!("it holds {extra}, which its manifest does not name"));
    }
    Ok(Checkpoint { step, io: io.clone(), folder: folder.to_owned(), files: manifest.files })
}

fn verify_file(io: &Io, folder: &Path, entry: &Entry) -> Result<(), Fault> {
    // A manifest is a file like any other: it must not lead out of its folder.
    name::single(&entry.name).map_err(|error| Fault::Damaged(error.to_string()))?;
    let path = folder.join(&entry.name);
    if !io::is_plain_file(&path) {
        return Err(Fault::Damaged(format!("{} is missing", entry.name)));
    }
    let (hash, length) = io.hash(&path).map_err(Fault::Error)?;
    match mismatch(entry, &hash, length) {
        None => Ok(()),
        Some(reason) => Err(Fault::Damaged(reason)),
    }
}

/// How a file differs from its entry.
fn mismatch(entry: &Entry, hash: &blake3::Hash, length: u64) -> Option<String> {
    let Entry { name, .. } = entry;
    if length != entry.length {
        Some(format!("{name} has {length} bytes, not {}", entry.length))
    } else if *hash.to_hex() != *entry.blake3 {
        Some(format!("{name} has another BLAKE3 hash than when it was saved"))
    } else {
        None
    }
}
