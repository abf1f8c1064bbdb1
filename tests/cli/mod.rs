//! One module per verb; `bpo` runs the binary.
mod annotate;
mod bpo;
mod causal;
mod compare;
mod eval;
mod generate;
mod inspect;
mod merge;
mod recipes;
mod score;
mod train;
mod usage;
