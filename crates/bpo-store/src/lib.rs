//! A run's folder on disk: lock, journal, metrics, checkpoints.
//! Start from [`RunDir::open`].
//! It never knows what the bytes mean, links no tensor library, and never deletes the last two intact checkpoints.
#![doc = ""]
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod checkpoint;
mod error;
pub mod faults;
mod finite;
mod io;
mod journal;
mod lock;
mod metrics;
mod name;
mod rows;
mod rundir;
#[cfg(test)]
mod scratch;

pub use checkpoint::{Checkpoint, Checkpoints, FileWriter, Quarantined, SetWriter};
pub use error::Error;
pub use io::{Blow, Hook, Io, Operation};
pub use journal::{Journal, JournalView, TornTail};
pub use metrics::MetricsLog;
pub use rows::RowFile;
pub use rundir::RunDir;
