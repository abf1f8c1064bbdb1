//! One module per verb; `bpo` runs the binary.
mod annotate;
pub mod bpo;
mod causal;
pub mod compare;
mod devices;
mod eval;
mod generate;
mod inspect;
mod merge;
mod precision;
mod recipes;
mod report;
mod score;
mod train;
mod usage;
