use std::path::PathBuf;

/// Why a server could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that contradicts another or has no effect.
    #[error("sampler: {0}")]
    Config(String),
    /// The server refused a request, or could not be reached in all tries.
    #[error("sampler {url}: {reason}{}", advice(*status))]
    Refused {
        /// The address asked.
        url: String,
        /// The HTTP status of the reply, where there was one.
        status: Option<u16>,
        /// What happened, and what the server said, without the key.
        reason: String,
    },
    /// A reply that is no completion of what was asked.
    #[error("sampler {url}: {reason}")]
    Reply {
        /// The address asked.
        url: String,
        /// What is wrong with the reply.
        reason: String,
    },
    /// The folder of adapters cannot be written.
    #[error("sampler: cannot write the adapter {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What to do about a status.
fn advice(status: Option<u16>) -> &'static str {
    match status {
        Some(401 | 403) => "; is the key in the variable that `api_key_env` names the right one?",
        Some(404 | 405) => "; are `url` (up to and with /v1), `model` and `format` right?",
        Some(300..=399) => "; redirects are not followed: give the final address",
        Some(_) => "",
        None => "; is the server running, and `url` its address?",
    }
}
