//! What a run sampled and judged, durable before it trains, so that nothing is asked twice.
//!
//! `journal.bin` is binary rather than lines of text, for three reasons: payloads may be any
//! bytes, a record is read by its place without searching for its end, and a checksummed length
//! tells a record that was never finished (cut, and reported) from one that was damaged later
//! (refused, with its offset). The payloads of [`Journal::once`] are JSON, so
//! `strings journal.bin` still shows them.

mod record;
mod scan;
mod view;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::finite::first_not_finite;
use crate::io::{self, GrowingFile, Io};
use crate::lock::Lock;
use record::{FILE_HEADER, encode};
use scan::{Scan, Span};
pub use view::JournalView;

/// Bytes at the end of the journal that were no complete record. They were cut when it was
/// opened: they are what a crash leaves of a record whose caller never got it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornTail {
    /// Where they began.
    pub offset: u64,
    /// How many there were.
    pub bytes: u64,
}

/// The records of a run, each under its step and kind. Only their places are kept in memory.
#[derive(Debug)]
pub struct Journal {
    file: GrowingFile,
    index: BTreeMap<u64, BTreeMap<String, Span>>,
    torn: Option<TornTail>,
    _lock: Arc<Lock>,
}

impl Journal {
    /// Opens or creates a journal and checks every record of it. A torn tail is cut.
    ///
    /// A last record that is complete but damaged is cut too: recomputing it is safe whether or
    /// not a checkpoint has gone past it, since a run replays only what is younger.
    pub(crate) fn open(io: &Io, path: &Path, lock: &Arc<Lock>) -> Result<Self, Error> {
        let mut file = GrowingFile::open(io, path)?;
        prepare(&mut file)?;
        let Scan { index, end } = scan::scan(&mut file)?;
        let torn = (end < file.end()).then(|| TornTail { offset: end, bytes: file.end() - end });
        if torn.is_some() {
            file.cut(end)?;
        }
        Ok(Self { file, index, torn, _lock: Arc::clone(lock) })
    }

    /// What was cut when the journal was opened.
    pub fn torn_tail(&self) -> Option<TornTail> {
        self.torn
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.index.values().map(BTreeMap::len).sum()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether a step has a record of this kind.
    pub fn contains(&self, step: u64, kind: &str) -> bool {
        self.span(step, kind).is_some()
    }

    /// The step and kind of every record, by step.
    pub fn records(&self) -> impl Iterator<Item = (u64, &str)> {
        self.index.iter().flat_map(|(step, kinds)| kinds.keys().map(|kind| (*step, kind.as_str())))
    }

    fn span(&self, step: u64, kind: &str) -> Option<Span> {
        self.index.get(&step)?.get(kind).copied()
    }

    /// The payload of a record, if there is one.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::JournalDamaged`] when the record changed since it was
    /// written.
    pub fn get(&mut self, step: u64, kind: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(span) = self.span(step, kind) else {
            return Ok(None);
        };
        let record = self.file.read_at(span.offset, span.length)?;
        match record::payload(record, step, kind) {
            Some(payload) => Ok(Some(payload)),
            None => Err(self.damaged(span.offset)),
        }
    }

    fn damaged(&self, offset: u64) -> Error {
        Error::JournalDamaged {
            path: self.file.path().to_owned(),
            offset,
            reason: "the record is not what was written",
        }
    }

    /// Adds a record, durable on return. A failed append adds nothing.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::JournalDuplicate`] when the step has a record of this kind,
    /// [`Error::Name`] for a kind that is empty or longer than 255 bytes, and
    /// [`Error::JournalTooLarge`] for a payload of 4 GiB.
    pub fn append(&mut self, step: u64, kind: &str, payload: &[u8]) -> Result<(), Error> {
        if self.contains(step, kind) {
            return Err(Error::JournalDuplicate { path: self.file.path().to_owned(), step, kind: kind.to_owned() });
        }
        if kind.is_empty() || kind.len() > 255 {
            let reason = "a kind has between 1 and 255 bytes";
            return Err(crate::name::refused(kind, reason));
        }
        let record = encode(step, kind, payload).ok_or_else(|| Error::JournalTooLarge {
            path: self.file.path().to_owned(),
            step,
            kind: kind.to_owned(),
        })?;
        let offset = self.file.append(&record)?;
        let span = Span { offset, length: record.len() };
        let kinds = self.index.entry(step).or_default();
        kinds.insert(kind.to_owned(), span);
        Ok(())
    }

    /// The recorded value, or else the computed one, recorded.
    ///
    /// The computed value is returned as it will be replayed, after one trip through JSON, so
    /// that a resumed run sees what the uninterrupted one saw. Finite floats survive that trip
    /// bit by bit; a NaN or an infinity is refused, since JSON would make a `null` of it.
    ///
    /// # Errors
    /// That of `compute`, those of [`Journal::get`] and [`Journal::append`],
    /// [`Error::JournalNotFinite`], and [`Error::JournalValue`] when a value does not survive
    /// JSON. Nothing is recorded then.
    pub fn once<T, E>(&mut self, step: u64, kind: &str, compute: impl FnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
    {
        if let Some(recorded) = self.get(step, kind)? {
            return Ok(from_json(step, kind, &recorded)?);
        }
        let payload = to_json(step, kind, &compute()?)?;
        let replayed = from_json(step, kind, &payload)?;
        self.append(step, kind, &payload)?;
        Ok(replayed)
    }
}

/// Writes the header of a new journal, or checks that of an old one.
fn prepare(file: &mut GrowingFile) -> Result<(), Error> {
    let length = file.end().min(FILE_HEADER.len() as u64) as usize;
    let found = file.read_at(0, length)?;
    if found == FILE_HEADER {
        return Ok(());
    }
    let is_unfinished = found.iter().zip(FILE_HEADER).all(|(found, meant)| found == meant || *found == 0);
    if file.end() <= FILE_HEADER.len() as u64 && is_unfinished {
        // A crash while the file was created: bytes that did not reach the disk are zeros.
        file.cut(0)?;
        return file.append(FILE_HEADER).map(|_| ());
    }
    Err(Error::JournalFormat { path: file.path().to_owned() })
}

fn to_json<T: Serialize>(step: u64, kind: &str, value: &T) -> Result<Vec<u8>, Error> {
    if let Some(number) = first_not_finite(value) {
        return Err(Error::JournalNotFinite { step, kind: kind.to_owned(), number });
    }
    serde_json::to_vec(value).map_err(|source| unfit("write", step, kind, source))
}

fn from_json<T: DeserializeOwned>(step: u64, kind: &str, payload: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(|source| unfit("read", step, kind, source))
}

fn unfit(action: &'static str, step: u64, kind: &str, source: serde_json::Error) -> Error {
    Error::JournalValue { action, step, kind: kind.to_owned(), source }
}

/// The journal's place in a run.
pub(crate) const FILE: &str = "journal.bin";

/// Opens the journal of a run.
pub(crate) fn open(io: &Io, run: &Path, lock: &Arc<Lock>) -> Result<Journal, Error> {
    let path = run.join(FILE);
    match io::exists(&path) && !io::is_plain_file(&path) {
        true => Err(Error::JournalFormat { path }),
        false => Journal::open(io, &path, lock),
    }
}

#[cfg(test)]
mod tests;
