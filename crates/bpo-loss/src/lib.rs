//! Direct-alignment losses for preference pairs, and log-probs without the `[batch, time, vocab]` tensor.
//! Start from [`Objective`] (a loss by name) or from the free functions [`dpo`], [`ipo`], [`slic_hinge`].
//! This crate never sees a model, a tokenizer or a file: summed log-probs in, unreduced losses out.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod causal;
mod chunked;
mod dpo;
mod error;
mod ipo;
mod logps;
mod metrics;
mod objective;
mod pair;
mod slic;

pub use causal::{
    DoublyRobust, GeneratedTexts, Importance, ImportanceMetrics, LoggedTexts, OfficialCausal, OfficialTexts,
    doubly_robust, ipw, model_value, raw_logit_scores,
};
pub use chunked::{Head, HeadGradients, ScoredTokens};
pub use dpo::dpo;
pub use error::Error;
pub use ipo::{ipo, ipo_averaged};
pub use logps::{IGNORE_INDEX, sequence_logps};
pub use metrics::{PairMetrics, implicit_rewards};
pub use objective::{LossType, Objective};
pub use pair::PairLogps;
pub use slic::slic_hinge;
