//! Models of the Hugging Face hub. Start from [`Hub::fetch`]; [`Id`] is how a model is named.
//! It speaks the hub's protocol and keeps its cache as Python's `huggingface_hub` does.
//! It knows nothing of what is in the files, and asks no environment.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod cache;
mod client;
mod download;
mod error;
mod fetch;
mod id;
mod token;

use std::path::PathBuf;

pub use error::Error;
pub use fetch::Fetched;
pub use id::Id;
pub use token::Token;

/// Where models come from, and where they are kept.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Address of the hub, without a slash at the end.
    pub endpoint: String,
    /// Who asks; needed for models that are private, or whose licence has to be accepted.
    pub token: Option<Token>,
    /// Folder of the cache, `~/.cache/huggingface/hub` by default in Python.
    pub cache: PathBuf,
    /// Never ask the hub.
    pub offline: bool,
}

impl Hub {
    /// The hub's own address.
    pub const ENDPOINT: &str = "https://huggingface.co";
}

/// Is told how a download goes on.
pub trait Watch {
    /// A file of so many bytes begins; some of them may be there already.
    fn begin(&mut self, file: &str, bytes: u64);
    /// So many of its bytes are there.
    fn at(&mut self, bytes: u64);
    /// The file is in its place.
    fn end(&mut self);
    /// Something that the user should know.
    fn note(&mut self, text: &str);
}
