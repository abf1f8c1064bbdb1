//! A set under construction: its files one after the other, its manifest last.

use std::path::Path;

use super::manifest::{self, Entry, Manifest};
use crate::io::{Io, NewFile};
use crate::{Error, name};

/// Takes the files of a set; each is durable once it is written.
#[derive(Debug)]
pub struct SetWriter<'a> {
    io: &'a Io,
    folder: &'a Path,
    manifest: Manifest,
}

/// Takes the bytes of one file, in pieces.
#[derive(Debug)]
pub struct FileWriter<'a>(NewFile<'a>);

impl FileWriter<'_> {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.write(bytes)
    }
}

impl<'a> SetWriter<'a> {
    pub(super) fn new(io: &'a Io, folder: &'a Path, step: u64) -> Self {
        Self { io, folder, manifest: Manifest::new(step) }
    }

    /// A file that is there as a whole.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Name`] and [`Error::CheckpointTwice`] for a name that cannot be in a set.
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.file_in_pieces(name, |file| file.write(bytes))
    }

    /// A file that `write` hands over in pieces.
    ///
    /// # Errors
    /// Those of [`SetWriter::file`] and those of `write`.
    pub fn file_in_pieces<E: From<Error>>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut FileWriter<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check(name)?;
        let path = self.folder.join(name);
        let mut file = FileWriter(NewFile::create(self.io, &path)?);
        write(&mut file)?;
        file.0.sync()?;
        let (hash, length) = file.0.written();
        self.manifest.files.push(Entry::new(name, length, &hash));
        Ok(())
    }

    /// Refuses names that leave the folder, that are reserved, or that appear twice.
    fn check(&self, file: &str) -> Result<(), Error> {
        name::single(file)?;
        if file == manifest::FILE {
            return Err(name::refused(file, "the manifest is written by the store"));
        }
        match self.manifest.files.iter().any(|entry| entry.name == file) {
            true => Err(Error::CheckpointTwice { name: file.to_owned() }),
            false => Ok(()),
        }
    }

    /// Writes the manifest; with it, and its name durable, the set is whole.
    pub(super) fn seal(self) -> Result<(), Error> {
        self.io.write_new(&self.folder.join(manifest::FILE), &self.manifest.to_json())?;
        self.io.sync_folder(Some(self.folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_in_a_set_are_refused() {
        let (io, folder) = (Io::real(), crate::scratch::folder());
        let mut set = SetWriter::new(&io, folder.path(), 1);
        for name in ["../a", "a/b", "", ".a", manifest::FILE] {
            assert!(matches!(set.file(name, b""), Err(Error::Name { .. })), "{name}");
        }
        set.file("a", b"").unwrap();
        assert!(matches!(set.file("a", b""), Err(Error::CheckpointTwice { .. })));
    }
}
