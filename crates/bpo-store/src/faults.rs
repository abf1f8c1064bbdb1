//! Faults to inject through [`Io::past`](crate::Io::past), for tests of what is built on this crate.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Blow, Hook, Operation};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No space is left: what creates, writes, names or syncs fails.
    NoSpace,
    /// The device fails: everything does, reading too.
    Device,
    /// The file system is read-only: everything but reading fails.
    ReadOnly,
    /// No space is left in the middle of a write.
    HalfAWrite,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NoSpace, Self::Device, Self::ReadOnly, Self::HalfAWrite];

    /// What the system says: ENOSPC, EIO or EROFS.
    fn error(self) -> io::Error {
        io::Error::from(match self {
            Self::NoSpace | Self::HalfAWrite => io::ErrorKind::StorageFull,
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            Self::Device => return io::Error::other("input/output error"),
        })
    }

    /// Whether it can happen to an operation.
    fn concerns(self, operation: &Operation<'_>) -> bool {
        match self {
            Self::Device => true,
            Self::ReadOnly => !matches!(operation, Operation::Read(_)),
            Self::NoSpace => !matches!(operation, Operation::Read(_) | Operation::Remove(_) | Operation::Cut { .. }),
            Self::HalfAWrite => matches!(operation, Operation::Write { .. }),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoSpace => "ENOSPC",
            Self::Device => "EIO",
            Self::ReadOnly => "EROFS",
            Self::HalfAWrite => "a short write",
        })
    }
}

/// The `nth` operation that a failure concerns fails, counted from 0; the later ones too if it lasts.
#[derive(Debug)]
pub struct FailAt {
    nth: u64,
    failure: Failure,
    lasts: bool,
    seen: AtomicU64,
}

impl FailAt {
    /// Once.
    pub fn once(nth: u64, failure: Failure) -> Self {
        Self { nth, failure, lasts: false, seen: AtomicU64::new(0) }
    }

    /// From then on.
    pub fn lasting(nth: u64, failure: Failure) -> Self {
        Self { lasts: true, ..Self::once(nth, failure) }
    }

    /// Whether it has come to the `nth` operation.
    pub fn has_struck(&self) -> bool {
        self.seen.load(Ordering::SeqCst) > self.nth
    }
}

impl Hook for FailAt {
    fn before(&self, operation: &Operation<'_>) -> Result<(), Blow> {
        if !self.failure.concerns(operation) {
            return Ok(());
        }
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        if seen < self.nth || (seen > self.nth && !self.lasts) {
            return Ok(());
        }
        let error = self.failure.error();
        Err(if self.failure == Failure::HalfAWrite { Blow::WritesHalf(error) } else { Blow::Fails(error) })
    }
}

/// Which side of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It is not begun.
    Before,
    /// It is done.
    After,
}

/// Ends the process at the `nth` operation, counted from 0, without unwinding: nothing is flushed and nothing is
/// dropped, as with `kill -9`.
#[derive(Debug)]
pub struct AbortAt {
    nth: u64,
    moment: Moment,
    seen: AtomicU64,
}

impl AbortAt {
    /// At one side of the `nth` operation.
    pub fn new(nth: u64, moment: Moment) -> Self {
        Self { nth, moment, seen: AtomicU64::new(0) }
    }
}

impl Hook for AbortAt {
    fn before(&self, _: &Operation<'_>) -> Result<(), Blow> {
        if self.seen.fetch_add(1, Ordering::SeqCst) == self.nth && self.moment == Moment::Before {
            std::process::abort();
        }
        Ok(())
    }

    fn after(&self, _: &Operation<'_>) {
        if self.seen.load(Ordering::SeqCst) == self.nth + 1 && self.moment == Moment::After {
            std::process::abort();
        }
    }
}
