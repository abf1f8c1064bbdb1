//! Model files as untrusted input: where every tensor of a safetensors file, of a sharded model or of a GGUF file lies.
//! Start from [`safetensors::open`] or [`gguf::open`].
//! It reads no tensor, links no tensor library, and allocates nothing that a file's length does not justify.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod error;
pub mod gguf;
pub mod safetensors;
mod whole;

pub use error::Error;
pub use whole::read_json_file;
