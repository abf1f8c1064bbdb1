//! The only place of this crate that touches the file system.
//!
//! Every function names the path and the action in its error.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::Error;

/// Turns a system error into one that names its file.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// All bytes of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(failed("read", path))
}

/// All bytes of a file, if there is one.
pub(crate) fn read_if_any(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// The BLAKE3 hash and the length of a file, in bounded memory.
pub(crate) fn hash(path: &Path) -> Result<(blake3::Hash, u64), Error> {
    let mut file = File::open(path).map_err(failed("open", path))?;
    let mut hasher = blake3::Hasher::new();
    let length = std::io::copy(&mut file, &mut hasher).map_err(failed("read", path))?;
    Ok((hasher.finalize(), length))
}

/// Writes a new file, durable on return.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = File::create(path).map_err(failed("create", path))?;
    file.write_all(bytes).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("sync", path))
}

/// Puts a file in place at once: a reader sees the old bytes or the new ones, and so does
/// whoever starts after a crash. A failed write leaves an existing file intact.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = beside(path);
    let written = write_new(&temporary, bytes).and_then(|()| rename(&temporary, path));
    if written.is_err() {
        // The error in hand says more than this one could.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The name under which a file is built before it is put in place.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Renames within one file system, durable on return.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(failed("move into place", to))?;
    let parents = [from.parent(), to.parent()];
    sync_folder(parents[1])?;
    if parents[0] != parents[1] {
        sync_folder(parents[0])?;
    }
    Ok(())
}

/// Makes the names in a folder durable.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: Option<&Path>) -> Result<(), Error> {
    let folder = match folder {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let opened = File::open(folder).map_err(failed("open", folder))?;
    opened.sync_all().map_err(failed("sync", folder))
}

/// Folders cannot be synced here; the system keeps their names itself.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: Option<&Path>) -> Result<(), Error> {
    Ok(())
}

/// Creates a folder and the folders above it; one that exists is fine.
pub(crate) fn create_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(failed("create", path))?;
    sync_folder(path.parent())
}

/// Removes a folder and what is in it; one that does not exist is fine.
pub(crate) fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The names in a folder, sorted; none when there is no folder.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether something, even a dangling link, has this name.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Whether this is a regular file, and not a link to one.
pub(crate) fn is_plain_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// Whether this exists and is something else than a folder.
pub(crate) fn is_no_folder(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_dir())
}

/// Opens a file for reading and writing, creating it if need be.
pub(crate) fn open_or_create(path: &Path) -> Result<File, Error> {
    let new = !exists(path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed("open", path))?;
    if new {
        sync_folder(path.parent())?;
    }
    Ok(file)
}

/// A file that only grows, except to cut what was never durable.
#[derive(Debug)]
pub(crate) struct GrowingFile {
    file: File,
    path: PathBuf,
    /// Where the durable part ends.
    end: u64,
    /// Whether bytes of a failed append may lie beyond `end`.
    torn: bool,
}

impl GrowingFile {
    /// Opens a file, creating it if need be.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut file = open_or_create(path)?;
        let end = file.seek(SeekFrom::End(0)).map_err(failed("measure", path))?;
        Ok(Self { file, path: path.to_owned(), end, torn: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the durable part ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Adds bytes at the end, durable on return; returns where they begin. A failed append
    /// adds nothing: what it left is cut before the next one.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        if self.torn {
            self.cut(self.end)?;
        }
        let begin = self.end;
        self.torn = true;
        self.write_at_end(bytes)?;
        self.torn = false;
        self.end += bytes.len() as u64;
        Ok(begin)
    }

    fn write_at_end(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Self { file, path, .. } = self;
        file.seek(SeekFrom::Start(self.end)).map_err(failed("seek in", path))?;
        file.write_all(bytes).map_err(failed("write", path))?;
        file.sync_data().map_err(failed("sync", path))
    }

    /// Forgets everything beyond `end`, durably.
    pub fn cut(&mut self, end: u64) -> Result<(), Error> {
        let Self { file, path, .. } = self;
        file.set_len(end).map_err(failed("cut", path))?;
        file.sync_data().map_err(failed("sync", path))?;
        self.end = end;
        self.torn = false;
        Ok(())
    }

    /// `length` bytes from `begin`.
    pub fn read_at(&mut self, begin: u64, length: usize) -> Result<Vec<u8>, Error> {
        let Self { file, path, .. } = self;
        let mut bytes = vec![0; length];
        file.seek(SeekFrom::Start(begin)).and_then(|_| file.read_exact(&mut bytes)).map_err(failed("read", path))?;
        Ok(bytes)
    }

    /// A buffered reader from the beginning.
    pub fn reader(&mut self) -> Result<BufReader<&File>, Error> {
        self.file.rewind().map_err(failed("seek in", &self.path))?;
        Ok(BufReader::with_capacity(1 << 16, &self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_an_existing_file_intact() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_atomic(&path, b"old").unwrap();
        // A folder where the temporary file should go makes the write fail.
        fs::create_dir(beside(&path)).unwrap();
        let error = write_atomic(&path, b"new").unwrap_err();
        assert!(error.to_string().contains(".state.json.tmp"), "{error}");
        assert_eq!(read(&path).unwrap(), b"old");
    }

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(beside(&path), b"left by a crash").unwrap();
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()).unwrap(), ["state.json"]);
    }

    #[test]
    fn what_a_failed_append_left_is_cut_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut file = GrowingFile::open(&path).unwrap();
        assert_eq!(file.append(b"one").unwrap(), 0);
        file.file.write_all(b"torn, and longer than the next").unwrap();
        file.torn = true;
        assert_eq!(file.append(b"two").unwrap(), 3);
        assert_eq!(read(&path).unwrap(), b"onetwo");
        assert_eq!(file.read_at(3, 3).unwrap(), b"two");
        assert!(file.read_at(4, 3).is_err());
    }

    #[test]
    fn errors_name_the_path() {
        let error = read(Path::new("/nonexistent/file")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /nonexistent/file: "));
        assert!(read_if_any(Path::new("/nonexistent/file")).unwrap().is_none());
    }
}
