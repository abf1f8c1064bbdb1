//! The one error type of the crate.

use std::path::{Path, PathBuf};

/// Why a model file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system said no.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A JSON file is malformed or holds a value of the wrong type.
    #[error("{path}: {reason}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is larger than its kind ever is.
    #[error("{path}: {bytes} bytes; such a file has {limit} at most", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The longest that is read.
        limit: u64,
    },
    /// A safetensors file is damaged.
    #[error("{path}: not a safetensors file: {reason}", path = path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; names the tensor where it is about one.
        reason: String,
    },
    /// A GGUF file is damaged, or holds what is not read.
    #[error("{path}: GGUF: {reason}", path = path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; names the tensor or the key where it is about one.
        reason: String,
    },
    /// A shard index names something it must not.
    #[error("{path}: shard \"{shard}\" {reason}", path = path.display())]
    Shard {
        /// The index file.
        path: PathBuf,
        /// The shard's name.
        shard: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}
