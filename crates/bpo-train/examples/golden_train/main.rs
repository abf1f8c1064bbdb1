//! Checks golden files of the schemas that belong to bpo-train.
//! `cargo run --release -p bpo-train --example golden_train -- FILE…`
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod causal;
#[path = "../../../../tests/golden/mod.rs"]
#[allow(dead_code, reason = "each example uses its part")]
mod golden;
mod schedule;
mod steps;

use std::process::ExitCode;

use serde_json::Value;

use golden::Check;

fn main() -> ExitCode {
    golden::run("bpo-train", check)
}

fn check(golden: &Value, found: &mut Check) -> Result<(), String> {
    match golden["schema"].as_str() {
        Some(schema) if schema.starts_with("bpo-golden-schedule") => schedule::check(golden, found),
        Some(schema) if schema.starts_with("bpo-golden-steps") => steps::check(golden, found),
        Some(schema) if schema.starts_with("bpo-golden-causal") => causal::check(golden, found),
        other => Err(format!("schema {other:?} has no check here")),
    }
}
