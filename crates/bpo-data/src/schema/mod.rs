//! From one JSON object to a prompt, a pair or a text: the schemas people have in their fingers.

mod completions;
mod fields;
mod preference;
mod prompt;
mod ranked;
mod transcript;
mod turns;

pub(crate) use completions::completions;
pub(crate) use fields::number;
pub(crate) use preference::{Pair, preference};
pub(crate) use prompt::{prompt, text};

/// One row.
type Object = serde_json::Map<String, serde_json::Value>;
