//! Golden vectors, finite differences, and chunked log-probs against the plain log-softmax.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chunked;
mod golden;
