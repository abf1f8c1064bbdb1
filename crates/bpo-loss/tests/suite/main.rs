//! Golden vectors, closed forms, properties of the losses, and chunked log-probs against the plain log-softmax.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods
)]

mod causal;
#[path = "../../examples/golden_loss/checks/mod.rs"]
mod checks;
mod chunked;
mod closed_forms;
mod expr;
#[allow(dead_code, reason = "each example uses its part")]
#[path = "../../../../tests/golden/mod.rs"]
mod golden;
mod identities;
mod pairs;
mod properties;
mod shared_files;
