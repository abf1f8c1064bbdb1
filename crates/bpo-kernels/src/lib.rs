//! What a decoder spends its time on, fused for CPU, with gradients; composed of burn's operations elsewhere.
//! Start from [`linear`]: all functions take and return burn tensors, tracked or not.
//! This crate does not know a model, a file or a loss, and nothing needs it to be right, only to be fast.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod composed;
mod operations;
mod visibility;

#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "flex")]
mod fused;

pub use operations::{
    Branch, add_lora, attention, attention_decode, computes_in_f32, is_fused, linear, linear_transposed, lora_linear,
    rms_norm, rotate, softmax, swiglu, widened, write_columns,
};
pub use visibility::{CacheView, Heads, Visibility};

#[cfg(all(test, feature = "flex"))]
mod tests;
