//! Direct-alignment losses for preference pairs, and log-probs without the `[batch, time, vocab]` tensor.
//! Start from [`Objective`] (losses by name, weighted) or from a loss's own function, such as [`dpo`].
//! This crate never sees a model, a tokenizer or a file: summed log-probs in, unreduced losses out.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod aot;
mod apo;
mod bco;
mod bradley_terry;
mod causal;
mod chunked;
mod discopop;
mod divergence;
mod dpo;
mod error;
mod exo;
mod expr;
mod gpo;
mod ipo;
mod kto;
mod logps;
mod loss_type;
mod metrics;
mod nca;
mod objective;
mod optimism;
mod pair;
mod sft;
mod slic;
mod sppo;
mod stable;
mod weighting;

pub use aot::{aot, aot_unpaired};
pub use apo::{apo_down, apo_zero};
pub use bco::bco_pair;
pub use bradley_terry::bradley_terry;
pub use causal::{
    DoublyRobust, GeneratedTexts, Importance, ImportanceMetrics, LoggedTexts, OfficialCausal, OfficialTexts,
    doubly_robust, ipw, model_value, raw_logit_scores,
};
pub use chunked::{Head, HeadGradients, ScoredTokens};
pub use discopop::{Form, aqfl, aql, cell, dbaql, discopop, lrml, padll, pfl};
pub use divergence::FDivergence;
pub use dpo::{dpo, dpo_averaged, robust_dpo};
pub use error::Error;
pub use exo::exo_pair;
pub use expr::{Expression, ExpressionError};
pub use gpo::{GpoFunction, gpo};
pub use ipo::{ipo, ipo_averaged};
pub use kto::kto_pair;
pub use logps::{IGNORE_INDEX, sequence_logps, token_logps};
pub use loss_type::LossType;
pub use metrics::{PairMetrics, implicit_rewards};
pub use nca::nca_pair;
pub use objective::{Objective, Term};
pub use optimism::{selm_bonus, xpo_bonus};
pub use pair::{PairLogps, log_ratio_margin};
pub use sft::chosen_nll;
pub use slic::slic_hinge;
pub use sppo::sppo_hard;
pub use weighting::{ld_token_weights, optune_wdpo, optune_weights, wpo_weight};
