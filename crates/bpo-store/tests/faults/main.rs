//! What `docs/reliability.md` promises of a run's folder, each promise with the faults that would break it. Nothing
//! here links a tensor library: [`toy`] is a training loop small enough to be killed a thousand times.
//!
//! The numbers of faults are those that fit into CI; `BPO_FAULTS=10` asks for ten times as many.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod child;
mod damage;
mod dice;
mod failing;
mod kills;
mod points;
mod power;
mod power_disk;
mod races;
mod scratch;
mod toy;
