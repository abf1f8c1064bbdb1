//! Whole runs of the real binary on the real tiny model, killed, interrupted, starved and misled.
//! `docs/reliability.md` says which promise each test is of; `BPO_FAULTS=10` asks for ten times as many faults.
mod damage;
#[path = "../../crates/bpo-store/tests/faults/dice.rs"]
mod dice;
mod disk;
mod inputs;
mod kills;
mod numbers;
mod run;
#[cfg(unix)]
mod signals;
mod steps;
