//! Parity with transformers and PEFT on tiny checkpoints; cache, layouts and exports against the plain forward.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod consistency;
mod families;
mod gguf;
mod merging;
mod parity;
mod precision;
mod refusals;
mod reward;
mod rope;
mod tiny;
