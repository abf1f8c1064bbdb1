//! Golden vectors, finite differences, and chunked log-probs against the plain log-softmax.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod causal;
mod chunked;
mod expr;
mod golden;
