//! Scoring and its gradients in every layout; whole runs on a tiny random model: learning, resuming.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod causal;
mod ensemble;
mod keys;
mod losses;
mod procedures;
mod reference;
mod refusals;
mod resume;
mod reward;
mod runs;
mod scoring;
mod selection;
mod tiny;
mod trial;
