//! The seam between this crate and the file system: every operation can be watched, refused, or be the last.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use super::failed;
use crate::Error;

/// One operation on the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// A file or the names in a folder are read.
    Read(&'a Path),
    /// A file is created, or emptied if there is one.
    Create(&'a Path),
    /// Bytes are written into a file.
    Write {
        /// The file.
        path: &'a Path,
        /// Offset of the first byte.
        at: u64,
        /// What is written.
        bytes: &'a [u8],
    },
    /// A file is cut to a length.
    Cut {
        /// The file.
        path: &'a Path,
        /// Bytes that stay.
        length: u64,
    },
    /// The content of a file is made durable.
    Sync(&'a Path),
    /// The names in a folder are made durable.
    SyncFolder(&'a Path),
    /// A file or folder gets another name.
    Rename {
        /// The old name.
        from: &'a Path,
        /// The new one; a file of that name is replaced.
        to: &'a Path,
    },
    /// A folder is created.
    CreateFolder(&'a Path),
    /// A file, or a folder with all that is in it, is removed.
    Remove(&'a Path),
}

impl<'a> Operation<'a> {
    /// The file or folder it is about: of a rename the new name.
    pub fn path(&self) -> &'a Path {
        match *self {
            Self::Read(path)
            | Self::Create(path)
            | Self::Write { path, .. }
            | Self::Cut { path, .. }
            | Self::Sync(path)
            | Self::SyncFolder(path)
            | Self::Rename { to: path, .. }
            | Self::CreateFolder(path)
            | Self::Remove(path) => path,
        }
    }

    /// What it does, as a verb of an error message.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Read(_) => "read",
            Self::Create(_) | Self::CreateFolder(_) => "create",
            Self::Write { .. } => "write",
            Self::Cut { .. } => "cut",
            Self::Sync(_) | Self::SyncFolder(_) => "sync",
            Self::Rename { .. } => "move into place",
            Self::Remove(_) => "remove",
        }
    }
}

/// What happens to an operation instead of itself.
#[derive(Debug)]
pub enum Blow {
    /// It fails and does nothing.
    Fails(std::io::Error),
    /// Of a write: the first half of the bytes arrives, then it fails.
    WritesHalf(std::io::Error),
}

/// Is told of every operation, and may strike it. [`faults`](crate::faults) has those that tests need.
pub trait Hook: Debug + Send + Sync {
    /// Before an operation.
    ///
    /// # Errors
    /// What happens in its place.
    fn before(&self, operation: &Operation<'_>) -> Result<(), Blow>;

    /// After an operation that went well.
    fn after(&self, operation: &Operation<'_>) {
        let _ = operation;
    }
}

/// How the files of a run are reached: as the system gives them, or past a [`Hook`].
#[derive(Debug, Clone, Default)]
pub struct Io {
    hook: Option<Arc<dyn Hook>>,
}

impl Io {
    /// As the system gives them.
    pub fn real() -> Self {
        Self::default()
    }

    /// Past a hook, which is told of every operation.
    pub fn past(hook: Arc<dyn Hook>) -> Self {
        Self { hook: Some(hook) }
    }

    /// Does `work`, which is `operation`, unless the hook strikes.
    pub(super) fn run<T>(
        &self,
        operation: Operation<'_>,
        work: impl FnOnce() -> std::io::Result<T>,
    ) -> Result<T, Error> {
        self.run_or_half(operation, work, || Ok(()))
    }

    /// [`Io::run`] of a write, `half` being its first half.
    pub(super) fn run_or_half<T>(
        &self,
        operation: Operation<'_>,
        work: impl FnOnce() -> std::io::Result<T>,
        half: impl FnOnce() -> std::io::Result<()>,
    ) -> Result<T, Error> {
        let refused = |source| failed(operation.action(), operation.path())(source);
        if let Some(hook) = &self.hook {
            match hook.before(&operation) {
                Ok(()) => {}
                Err(Blow::Fails(error)) => return Err(refused(error)),
                Err(Blow::WritesHalf(error)) => return Err(refused(half().err().unwrap_or(error))),
            }
        }
        let done = work().map_err(refused)?;
        if let Some(hook) = &self.hook {
            hook.after(&operation);
        }
        Ok(done)
    }
}
