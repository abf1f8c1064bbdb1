//! The only place of this crate that touches the file system.
//!
//! Every function names the path and the action in its error, and every operation passes the [`Hook`] of [`Io`].

mod file;
mod seam;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub(crate) use file::{GrowingFile, NewFile};
pub use seam::{Blow, Hook, Io, Operation};

use crate::Error;

/// Turns a system error into one that names its file.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

impl Io {
    /// All bytes of a file.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        self.run(Operation::Read(path), || fs::read(path))
    }

    /// All bytes of a file, if there is one.
    pub(crate) fn read_if_any(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        self.run(Operation::Read(path), || match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// The BLAKE3 hash and the length of a file, in bounded memory.
    pub(crate) fn hash(&self, path: &Path) -> Result<(blake3::Hash, u64), Error> {
        self.run(Operation::Read(path), || {
            let mut hasher = blake3::Hasher::new();
            let length = std::io::copy(&mut File::open(path)?, &mut hasher)?;
            Ok((hasher.finalize(), length))
        })
    }

    /// Writes a new file, durable on return.
    pub(crate) fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut file = NewFile::create(self, path)?;
        file.write(bytes)?;
        file.sync()
    }

    /// Puts a file in place at once: a reader sees the old bytes or the new ones, and so does
    /// whoever starts after a crash. A failed write leaves an existing file intact.
    pub(crate) fn write_atomic(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let temporary = beside(path);
        let written = self.write_new(&temporary, bytes).and_then(|()| self.rename(&temporary, path));
        if written.is_err() {
            // The error in hand says more than this one could.
            let _ = self.run(Operation::Remove(&temporary), || fs::remove_file(&temporary));
        }
        written
    }

    /// Renames within one file system, durable on return.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.run(Operation::Rename { from, to }, || fs::rename(from, to))?;
        self.sync_folder(to.parent())?;
        match from.parent() == to.parent() {
            true => Ok(()),
            false => self.sync_folder(from.parent()),
        }
    }

    /// Makes the names in a folder durable. Where folders cannot be synced, the system keeps their names itself.
    pub(crate) fn sync_folder(&self, folder: Option<&Path>) -> Result<(), Error> {
        let folder = match folder {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        self.run(Operation::SyncFolder(folder), || if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) })
    }

    /// Creates a folder and the folders above it, all of them durable on return; one that exists is fine.
    pub(crate) fn create_folder(&self, path: &Path) -> Result<(), Error> {
        let is_missing = |folder: &&Path| *folder != Path::new("") && !exists(folder);
        let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
        if missing.is_empty() {
            // Whoever made it may have been killed before its name was durable.
            return self.sync_folder(path.parent());
        }
        for folder in missing.into_iter().rev() {
            self.run(Operation::CreateFolder(folder), || match fs::create_dir(folder) {
                // Somebody else was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
                made => made,
            })?;
            self.sync_folder(folder.parent())?;
        }
        Ok(())
    }

    /// Removes a folder and what is in it; one that does not exist is fine.
    pub(crate) fn remove_folder(&self, path: &Path) -> Result<(), Error> {
        if !exists(path) {
            return Ok(());
        }
        self.run(Operation::Remove(path), || match fs::remove_dir_all(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }

    /// The names in a folder, sorted; none when there is no folder.
    pub(crate) fn names(&self, folder: &Path) -> Result<Vec<String>, Error> {
        let mut names = self.run(Operation::Read(folder), || match fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        })?;
        names.sort_unstable();
        Ok(names)
    }
}

/// The name under which a file is built before it is put in place.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Whether something, even a dangling link, has this name.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Whether this is a regular file, and not a link to one.
pub(crate) fn is_plain_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// Refuses what is there and no plain file: nothing is written through a link, and nobody waits for the other end of a
/// pipe.
pub(crate) fn refuse_strange(path: &Path) -> Result<(), Error> {
    match exists(path) && !is_plain_file(path) {
        true => Err(Error::NotAFile { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// Length of a file; 0 where there is none.
pub(crate) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// Whether this exists and is something else than a folder.
pub(crate) fn is_no_folder(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_an_existing_file_intact() {
        let (io, folder) = (Io::real(), crate::scratch::folder());
        let path = folder.path().join("state.json");
        io.write_atomic(&path, b"old").unwrap();
        // A folder where the temporary file should go makes the write fail.
        fs::create_dir(beside(&path)).unwrap();
        let error = io.write_atomic(&path, b"new").unwrap_err();
        assert!(error.to_string().contains(".state.json.tmp"), "{error}");
        assert_eq!(io.read(&path).unwrap(), b"old");
    }

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_beside() {
        let (io, folder) = (Io::real(), crate::scratch::folder());
        let path = folder.path().join("state.json");
        fs::write(beside(&path), b"left by a crash").unwrap();
        io.write_atomic(&path, b"old").unwrap();
        io.write_atomic(&path, b"new").unwrap();
        assert_eq!(io.read(&path).unwrap(), b"new");
        assert_eq!(io.names(folder.path()).unwrap(), ["state.json"]);
    }

    #[test]
    fn errors_name_the_path() {
        let error = Io::real().read(Path::new("/nonexistent/file")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /nonexistent/file: "));
        assert!(Io::real().read_if_any(Path::new("/nonexistent/file")).unwrap().is_none());
    }
}
