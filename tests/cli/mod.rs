//! One module per verb; `bpo` runs the binary.
mod bpo;
mod causal;
mod eval;
mod generate;
mod inspect;
mod merge;
mod score;
mod train;
mod usage;
