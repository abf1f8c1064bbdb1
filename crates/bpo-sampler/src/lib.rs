//! Batched, KV-cached sampling of completions from any [`CausalLm`], with every token's log-prob recorded.
//! Start from [`generate`]; implement [`CausalLm`] to sample from a model of your own.
//! This crate never sees text: token ids in, token ids and log-probs out.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod distribution;
mod error;
mod filter;
mod generate;
mod generation;
mod lm;
mod masses;
mod members;
mod select;
mod stream;
mod waiting;

pub use distribution::{Admissible, Draw, Sampling};
pub use error::Error;
pub use generate::{Completion, FinishReason, GenerateConfig, Request, generate};
pub use generation::Generation;
pub use lm::CausalLm;
pub use members::MemberRanks;
pub use select::{Candidates, PairSelection, Pick, Second, best_worst, keyed_below};
pub use stream::{StreamKey, TokenStream};
