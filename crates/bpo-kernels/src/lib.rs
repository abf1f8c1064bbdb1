//! What a decoder spends its time on, fused for CPU: products with frozen weights and LoRA branches, RMS norm, SwiGLU,
//! rotary positions, attention under any mask, softmax of target rows; each with its gradient.
//!
//! Start from [`linear`]: all functions take and return burn tensors, tracked or not. On burn's `flex` backend in f32
//! (cargo feature `flex`) they run kernels of this crate; on every other device they are composed of burn's own
//! operations, to the same result up to rounding. Does not know a model, a file or a loss.
mod composed;
mod operations;
mod visibility;

#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "flex")]
mod fused;

pub use operations::{
    Branch, attention, attention_decode, is_fused, linear, lora_linear, rms_norm, rotate, softmax, swiglu,
    write_columns,
};
pub use visibility::{CacheView, Heads, Visibility};

#[cfg(all(test, feature = "flex"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
