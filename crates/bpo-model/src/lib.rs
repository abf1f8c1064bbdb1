//! Hugging Face decoders on burn: read a model directory, run it, adapt it with LoRA, write it back.
//! Start from [`Decoder::from_dir`]; adapters are [`Adapter`], reward heads [`SequenceClassifier`].
//! This crate neither samples (it implements bpo-sampler's `CausalLm`) nor trains: it has no optimiser.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod attention;
mod backward;
mod cache;
mod config;
mod decoder;
mod encoder;
mod error;
mod export;
mod gguf;
mod init;
mod input;
mod layer;
mod linear;
mod lora;
mod mask;
mod merge;
mod mlp;
mod names;
mod norm;
mod params;
mod peft;
mod precision;
mod ranker;
mod reward;
mod rope;
mod softcap;
mod source;
mod weights;

pub use backward::Backward;
pub use cache::KvCache;
pub use config::{Activation, Architecture, DecoderConfig, NormKind, PositionKind, Residual, Rope, RopeScaling};
pub use decoder::Decoder;
pub use encoder::EncoderConfig;
pub use error::Error;
pub use export::{WeightDtype, companion_files, write_model};
pub use input::Input;
pub use lora::{Adapter, LoraConfig};
pub use merge::{AdapterMerge, LowRank, Merged, adapter_spread, merge_adapters, merge_deltas};
pub use params::Parameters;
pub use precision::{Dtype, Precision};
pub use ranker::{PairClassifier, PairMarks};
pub use reward::SequenceClassifier;
pub use weights::Checkpoint;
