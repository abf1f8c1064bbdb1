//! Scoring and its gradients in every layout; whole runs on a tiny random model: learning, resuming.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod runs;
mod scoring;
mod tiny;
