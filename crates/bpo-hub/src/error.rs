//! The one error type of the crate.

use std::path::{Path, PathBuf};

/// Why a model could not be had.
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
    /// 401, or 404 without more: the hub does not say whether such a model exists.
    #[error(
        "{id}: there is no such model on {endpoint}, or it is private or gated ({status}): check the name, {token}, and \
         accept its licence on its page"
    )]
    Unknown {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
        /// What the hub answered.
        status: u16,
        /// What to do about the token.
        token: &'static str,
    },
    /// 403: the token is good and not enough.
    #[error(
        "{id}: access is refused (403): accept its licence at {endpoint}/{id}, or use the HF_TOKEN of somebody who has"
    )]
    Forbidden {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
    },
    /// 404 for the model or its revision.
    #[error("{id}: not found on {endpoint} (404): check the name and the revision")]
    NotFound {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
    },
    /// A file that is needed is not in the model.
    #[error("{id}: it has no {file}{hint}")]
    NoFile {
        /// The model.
        id: String,
        /// The file.
        file: String,
        /// What that means.
        hint: &'static str,
    },
    /// The hub must not be asked, and the cache does not have it all.
    #[error(
        "{id}: HF_HUB_OFFLINE is set, and {what} is not in {cache}: unset it, or fetch the model elsewhere and bring the \
         cache here, or give the folder of a model",
        cache = cache.display()
    )]
    Offline {
        /// The model.
        id: String,
        /// What is missing.
        what: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The hub cannot be reached, and the cache does not have it all.
    #[error(
        "{id}: {endpoint} cannot be reached ({reason}), and {what} is not in {cache}: check the connection, HF_ENDPOINT and \
         HTTPS_PROXY, or give the folder of a model",
        cache = cache.display()
    )]
    Unreachable {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
        /// Why not.
        reason: String,
        /// What is missing.
        what: String,
        /// The cache.
        cache: PathBuf,
    },
    /// A download broke off, time and again.
    #[error(
        "{id}: the download of {file} broke at {have} of {size} bytes ({reason}); the same command goes on from there"
    )]
    Broken {
        /// The model.
        id: String,
        /// The file.
        file: String,
        /// Bytes that are there.
        have: u64,
        /// Bytes in all.
        size: u64,
        /// Why it broke.
        reason: String,
    },
    /// What came is not what the hub has.
    #[error(
        "{id}: the bytes of {file} that came are not those that {endpoint} names (their SHA-256 is another); they were \
         thrown away: try again, or look at what is between the hub and here"
    )]
    Altered {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
        /// The file.
        file: String,
    },
    /// The hub said something else than expected.
    #[error("{id}: {file} from {endpoint}: {reason}")]
    Reply {
        /// The model.
        id: String,
        /// The hub.
        endpoint: String,
        /// What was asked for.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}
