//! Files that are written in pieces.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Io, Operation, exists, failed, refuse_strange};
use crate::Error;

impl Io {
    /// Opens a file for reading and writing, creating it if need be.
    pub(crate) fn open_or_create(&self, path: &Path) -> Result<File, Error> {
        let new = !exists(path);
        refuse_strange(path)?;
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        if new {
            let file = self.run(Operation::Create(path), open)?;
            self.sync_folder(path.parent())?;
            return Ok(file);
        }
        open().map_err(failed("open", path))
    }

    /// Writes at a place of an open file.
    pub(crate) fn write_at(&self, file: &mut File, path: &Path, at: u64, bytes: &[u8]) -> Result<(), Error> {
        file.seek(SeekFrom::Start(at)).map_err(failed("seek in", path))?;
        let half = &bytes[..bytes.len() / 2];
        let file = std::cell::RefCell::new(file);
        let write = |bytes| file.borrow_mut().write_all(bytes);
        self.run_or_half(Operation::Write { path, at, bytes }, || write(bytes), || write(half))
    }

    /// Reads at a place of an open file.
    pub(crate) fn read_at(&self, file: &mut File, path: &Path, begin: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.run(Operation::Read(path), || {
            let mut bytes = vec![0; length];
            file.seek(SeekFrom::Start(begin))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        })
    }

    /// A new file that has lost its name: the system takes it back when it is closed.
    pub(crate) fn nameless(&self, path: &Path) -> Result<File, Error> {
        let open = || OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = self.run(Operation::Create(path), open)?;
        self.run(Operation::Remove(path), || std::fs::remove_file(path))?;
        Ok(file)
    }

    /// Cuts an open file, durably.
    pub(crate) fn cut(&self, file: &File, path: &Path, length: u64) -> Result<(), Error> {
        self.set_length(file, path, length)?;
        self.run(Operation::Sync(path), || file.sync_data())
    }

    /// Cuts an open file.
    pub(crate) fn set_length(&self, file: &File, path: &Path, length: u64) -> Result<(), Error> {
        self.run(Operation::Cut { path, length }, || file.set_len(length))
    }
}

/// A file under construction, hashed as it is written.
#[derive(Debug)]
pub(crate) struct NewFile<'a> {
    io: &'a Io,
    path: &'a Path,
    file: File,
    length: u64,
    hasher: blake3::Hasher,
}

impl<'a> NewFile<'a> {
    /// Creates it, empty.
    pub fn create(io: &'a Io, path: &'a Path) -> Result<Self, Error> {
        let file = io.run(Operation::Create(path), || File::create(path))?;
        Ok(Self { io, path, file, length: 0, hasher: blake3::Hasher::new() })
    }

    /// Adds bytes at the end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.io.write_at(&mut self.file, self.path, self.length, bytes)?;
        self.length += bytes.len() as u64;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Makes it durable.
    pub fn sync(&self) -> Result<(), Error> {
        self.io.run(Operation::Sync(self.path), || self.file.sync_all())
    }

    /// Hash and length of what was written.
    pub fn written(&self) -> (blake3::Hash, u64) {
        (self.hasher.finalize(), self.length)
    }
}

/// A file that only grows, except to cut what was never durable.
#[derive(Debug)]
pub(crate) struct GrowingFile {
    io: Io,
    file: File,
    path: PathBuf,
    /// Where the durable part ends.
    end: u64,
    /// Whether bytes of a failed append may lie beyond `end`.
    torn: bool,
}

impl GrowingFile {
    /// Opens a file, creating it if need be.
    pub fn open(io: &Io, path: &Path) -> Result<Self, Error> {
        let mut file = io.open_or_create(path)?;
        let end = file.seek(SeekFrom::End(0)).map_err(failed("measure", path))?;
        // What is there may come from a process that was killed before it could sync it.
        io.run(Operation::Sync(path), || file.sync_data())?;
        Ok(Self { io: io.clone(), file, path: path.to_owned(), end, torn: false })
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
        let Self { io, file, path, end, .. } = self;
        io.write_at(file, path, *end, bytes)?;
        io.run(Operation::Sync(path), || file.sync_data())
    }

    /// Forgets everything beyond `end`, durably.
    pub fn cut(&mut self, end: u64) -> Result<(), Error> {
        self.io.cut(&self.file, &self.path, end)?;
        self.end = end;
        self.torn = false;
        Ok(())
    }

    /// `length` bytes from `begin`.
    pub fn read_at(&mut self, begin: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.io.read_at(&mut self.file, &self.path, begin, length)
    }

    /// A buffered reader from the beginning.
    pub fn reader(&mut self) -> Result<BufReader<&File>, Error> {
        self.io.run(Operation::Read(&self.path), || self.file.rewind())?;
        Ok(BufReader::with_capacity(1 << 16, &self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_append_left_is_cut_before_the_next() {
        let (io, folder) = (Io::real(), crate::scratch::folder());
        let path = folder.path().join("log");
        let mut file = GrowingFile::open(&io, &path).unwrap();
        assert_eq!(file.append(b"one").unwrap(), 0);
        file.file.write_all(b"torn, and longer than the next").unwrap();
        file.torn = true;
        assert_eq!(file.append(b"two").unwrap(), 3);
        assert_eq!(io.read(&path).unwrap(), b"onetwo");
        assert_eq!(file.read_at(3, 3).unwrap(), b"two");
        assert!(file.read_at(4, 3).is_err());
    }
}
