//! Holds the losses and log-probs against golden files: `cargo run --release -p bpo-loss --example golden_loss -- FILE…`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod checks;
#[allow(dead_code, reason = "each example uses its part")]
#[path = "../../../../tests/golden/mod.rs"]
mod golden;

use std::process::ExitCode;

fn main() -> ExitCode {
    golden::run("bpo-loss", checks::check)
}
