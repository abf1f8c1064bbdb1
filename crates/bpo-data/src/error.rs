//! The one error type of the crate.

use std::path::PathBuf;

use crate::truncate::DropReason;

/// Why data could not be read, tokenised or laid out.
///
/// Messages name files, lines and keys; they never repeat the contents of a row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or read; a damaged gzip stream ends here too.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A row is not what it should be.
    #[error("{origin}:{line}: {reason}")]
    Row {
        /// The file, or the name given to embedded bytes.
        origin: String,
        /// 1-based line where the row starts.
        line: usize,
        /// What is wrong, without the row's contents.
        reason: String,
    },
    /// [`BadLines::Skip`](crate::BadLines::Skip) met more rows that cannot be read than an accident leaves.
    #[error("{bad} of {total} rows cannot be read, more than one in a hundred; the first: {first}")]
    TooManyBad {
        /// Rows that cannot be read.
        bad: usize,
        /// All rows.
        total: usize,
        /// The file, line and reason of the first.
        first: String,
    },
    /// A source holds no rows at all.
    #[error("{origin}: no rows")]
    NoRows {
        /// The file, or the name given to embedded bytes.
        origin: String,
    },
    /// A file is larger than this crate agrees to hold in memory.
    #[error("{origin}: larger than {limit} bytes")]
    TooLarge {
        /// The file, or the name given to embedded bytes.
        origin: String,
        /// The limit, in (decompressed) bytes.
        limit: u64,
    },
    /// A model file that holds a tokenizer cannot be read.
    #[error(transparent)]
    Files(#[from] bpo_files::Error),
    /// A `tokenizer.json` or one of its siblings cannot be used.
    #[error("{origin}: {reason}")]
    Tokenizer {
        /// The file, or the name given to embedded bytes.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// Text could not be turned into ids.
    #[error("cannot encode text: {0}")]
    Encode(String),
    /// Ids could not be turned into text.
    #[error("cannot decode ids: {0}")]
    Decode(String),
    /// Untrusted text would have become a control token in spite of every effort.
    #[error("untrusted text becomes the special token with id {id}")]
    ControlToken {
        /// The id of the special token.
        id: u32,
    },
    /// A conversation was given to a tokenizer without a chat template.
    #[error("the tokenizer has no chat template; use plain-text prompts or add chat_template.jinja")]
    NoChatTemplate,
    /// The chat template is invalid, raised an exception or went over its limits.
    #[error("chat template: {0}")]
    ChatTemplate(String),
    /// [`Truncation::Error`](crate::Truncation::Error) met a row over its limits.
    #[error("{reason}: {length} tokens, at most {limit} allowed")]
    OverLimit {
        /// Which limit was exceeded.
        reason: DropReason,
        /// How long the row is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A batch cannot be laid out.
    #[error("cannot lay out the batch: {0}")]
    Layout(&'static str),
}
