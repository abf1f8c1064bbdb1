//! Parity with transformers and PEFT on tiny checkpoints; cache, layouts and exports against the plain forward.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod consistency;
mod parity;
mod tiny;
