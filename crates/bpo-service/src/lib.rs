//! Model servers over HTTP: keys that are never told, deadlines, retries; and completions with their log-probs out of
//! servers that speak OpenAI's completions.
//! Start from [`SamplerConfig::build`] to sample, or from [`Client::exchange`] to ask anything else.
//! It never trains, links no tensor library, and follows no redirect.
#![doc = ""]
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod client;
mod error;
mod exchange;
mod patience;
mod sampler;
mod secret;
mod settings;
mod url;

pub use client::{Client, Fault, Reply};
pub use error::Error;
pub use exchange::{Exchange, Failure};
pub use patience::{MOST_TRIES, Patience};
pub use sampler::{Asked, Drawing, Drawn, Finish, Format, PromptForm, Published, Sampler, SamplerConfig};
pub use secret::Secret;
pub use settings::{Waits, check_variable, key, only_model, seconds};
pub use url::ServiceUrl;
