//! Finds the records of a journal, and tells a torn tail from damage.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::record::{CHECK, FILE_HEADER, HEADER, Header};
use crate::Error;
use crate::io::{GrowingFile, failed};

/// Where a record lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub offset: u64,
    pub length: usize,
}

/// What a journal holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// By step and kind.
    pub index: BTreeMap<u64, BTreeMap<String, Span>>,
    /// Where the last intact record ends.
    pub end: u64,
}

/// Reads a journal from its first record on, in bounded memory.
pub(super) fn scan(file: &mut GrowingFile) -> Result<Scan, Error> {
    let (path, length) = (file.path().to_owned(), file.end());
    scan_through(file.reader()?, &path, length)
}

/// Reads the first `length` bytes of a journal.
pub(super) fn scan_through(bytes: BufReader<&File>, path: &Path, length: u64) -> Result<Scan, Error> {
    let mut scanner = Scanner { length, offset: FILE_HEADER.len() as u64, bytes, path };
    scanner.seek(scanner.offset)?;
    let mut index: BTreeMap<u64, BTreeMap<String, Span>> = BTreeMap::new();
    while let Some((step, kind, span)) = scanner.record()? {
        match index.entry(step).or_default().entry(kind) {
            Entry::Vacant(place) => {
                place.insert(span);
            }
            Entry::Occupied(_) => {
                let reason = "a second record of the same step and kind";
                return Err(damaged(path, span.offset, reason));
            }
        }
        scanner.offset = span.offset + span.length as u64;
    }
    let end = scanner.offset;
    Ok(Scan { index, end })
}

fn damaged(path: &Path, offset: u64, reason: &'static str) -> Error {
    let path: PathBuf = path.to_owned();
    Error::JournalDamaged { path, offset, reason }
}

struct Scanner<'a> {
    bytes: BufReader<&'a File>,
    path: &'a Path,
    /// Length of the file.
    length: u64,
    /// Where the next record begins.
    offset: u64,
}

impl Scanner<'_> {
    fn seek(&mut self, to: u64) -> Result<(), Error> {
        let sought = self.bytes.seek(SeekFrom::Start(to));
        sought.map(|_| ()).map_err(failed("seek in", self.path))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let read = self.bytes.read_exact(buffer);
        read.map_err(failed("read", self.path))
    }

    /// The record at `offset`; `None` when the intact part of the journal ends there.
    fn record(&mut self) -> Result<Option<(u64, String, Span)>, Error> {
        let left = self.length - self.offset;
        if left < HEADER as u64 {
            return Ok(None);
        }
        let mut head = [0; HEADER];
        self.fill(&mut head)?;
        let Some(header) = Header::read(&head) else {
            // Nobody writes a record after an unfinished one: if one follows, this is damage.
            return match self.another_follows()? {
                true => Err(damaged(self.path, self.offset, "the record's head is damaged")),
                false => Ok(None),
            };
        };
        if left < header.record() as u64 {
            return Ok(None);
        }
        match self.body(&head, &header)? {
            Some(kind) => {
                let span = Span { offset: self.offset, length: header.record() };
                Ok(Some((header.step, kind, span)))
            }
            None if left == header.record() as u64 => Ok(None),
            None => Err(damaged(self.path, self.offset, "the record is damaged")),
        }
    }

    /// The kind of a record whose head has been read; `None` when its check fails.
    fn body(&mut self, head: &[u8], header: &Header) -> Result<Option<String>, Error> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(head);
        let mut kind = vec![0; header.kind];
        self.fill(&mut kind)?;
        hasher.update(&kind);
        let mut left = header.payload;
        let mut chunk = [0; 1 << 13];
        while left > 0 {
            let part = left.min(chunk.len());
            self.fill(&mut chunk[..part])?;
            hasher.update(&chunk[..part]);
            left -= part;
        }
        let mut check = [0; CHECK];
        self.fill(&mut check)?;
        if hasher.finalize().as_bytes()[..CHECK] != check {
            return Ok(None);
        }
        Ok(String::from_utf8(kind).ok())
    }

    /// Whether the head of a record stands anywhere after `offset`.
    fn another_follows(&mut self) -> Result<bool, Error> {
        self.seek(self.offset + 1)?;
        let mut window = Vec::new();
        loop {
            let read = (&mut self.bytes).take(1 << 16).read_to_end(&mut window);
            if read.map_err(failed("read", self.path))? == 0 {
                return Ok(false);
            }
            if window.windows(HEADER).any(|head| Header::read(head).is_some()) {
                return Ok(true);
            }
            let surplus = window.len().saturating_sub(HEADER - 1);
            window.drain(..surplus);
        }
    }
}
