//! Preference data: prompts, preferences and references as rows, token ids and plain-vector batches.
//! Start from [`read_prompts`] for files, [`Tokenizer`] for text ↔ ids and [`Layout`] for batches.
//! It does not link burn, download anything, sample, or judge.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod error;
mod gguf;
mod layout;
mod message;
mod order;
mod outcomes;
mod reader;
mod row_set;
mod rows;
mod schema;
mod split;
mod tokenizer;
mod truncate;

#[cfg(test)]
mod samples;

pub use error::Error;
pub use gguf::gguf_tokenizer_files;
pub use layout::{Group, Layout, Segment, Target, packed, padded, shared_prefix};
pub use message::{Message, Prompt};
pub use order::PromptOrder;
pub use outcomes::{OutcomeRow, read_outcomes, read_outcomes_from};
pub use reader::{Row, read_json_rows, read_json_rows_from};
pub use row_set::Rows;
pub use rows::{
    BadLines, CompletionsRow, FromRow, PreferenceRow, PromptRow, Read, ReferenceRow, RowReader, TextRow,
    read_completions, read_completions_from, read_preferences, read_preferences_from, read_prompts, read_prompts_from,
    read_references, read_references_from, read_texts, read_texts_from,
};
pub use split::held_out;
pub use tokenizer::{PairIds, Tokenizer};
pub use truncate::{Counts, DropReason, Fit, Limits, Truncation, fit_group, fit_pair, fit_prompt};
