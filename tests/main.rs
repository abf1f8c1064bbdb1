//! The `bpo` binary from the outside: arguments in, exit code, standard output and standard error out. And the
//! conformance suite of devices, which uses the crates below it as well.
//! What a test needs and does not find is said in a `skipped:` line.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod attacks;
mod cli;
mod conformance;
#[allow(dead_code, reason = "opening is all that is used")]
#[path = "../crates/bpo-cli/src/device.rs"]
mod device;
mod faults;
mod fuzz;
mod gguf;
#[allow(dead_code, reason = "each of its users uses its part")]
mod golden;
