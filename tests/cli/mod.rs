//! One module per verb; `bpo` runs the binary.
mod annotate;
pub mod bpo;
mod causal;
mod check;
pub mod compare;
mod devices;
mod eval;
mod generate;
mod gguf;
mod help;
mod hub;
#[path = "../../crates/bpo-hub/tests/server/mod.rs"]
mod hub_server;
mod init;
mod inspect;
mod large;
mod merge;
mod precision;
mod recipes;
mod report;
mod reward;
mod samplers;
mod score;
#[allow(dead_code, reason = "the faults are played in bpo-annotate")]
#[path = "../../crates/bpo-annotate/tests/services/server.rs"]
mod server;
mod services;
mod train;
mod usage;
