//! The `bpo` binary from the outside: arguments in, exit code, standard output and standard error out.
//! What a test needs and does not find is said in a `skipped:` line.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod cli;
