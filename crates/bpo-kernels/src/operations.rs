use std::sync::Arc;

#[cfg(feature = "flex")]
use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Tensor};

#[cfg(feature = "flex")]
use crate::fused::FusedOps;
use crate::{CacheView, Heads, Visibility, composed};

/// Whether operations on `tensor` run this crate's kernels.
pub fn is_fused<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32 && on_flex(tensor)
}

#[cfg(feature = "flex")]
fn on_flex<const D: usize>(tensor: &Tensor<D>) -> bool {
    matches!(tensor.device().inner().as_dispatch(), DispatchDevice::Flex(_))
}

#[cfg(not(feature = "flex"))]
fn on_flex<const D: usize>(_: &Tensor<D>) -> bool {
    false
}

/// Runs the fused operation where there is one, and returns from the caller.
macro_rules! fused {
    ($tensor:expr => $operation:ident($($argument:expr),*)) => {
        #[cfg(feature = "flex")]
        if is_fused(&$tensor) {
            return Tensor::from_dispatch(Dispatch::$operation($($argument),*));
        }
    };
}

/// `x·Wᵀ`: `x` `[rows, in]`, `weight` `[out, in]`, result `[rows, out]`. A weight that is not tracked costs nothing on
/// the way back.
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    fused!(x => linear(x.into_dispatch(), weight.into_dispatch()));
    composed::linear(x, weight)
}

/// A LoRA branch (Hu et al. 2021, arXiv:2106.09685).
#[derive(Debug, Clone)]
pub struct Branch {
    /// `[rank, in]`.
    pub a: Tensor<2>,
    /// `[out, rank]`.
    pub b: Tensor<2>,
    /// Its factor.
    pub scaling: f64,
}

/// `x·Wᵀ + s·(x·Aᵀ)·Bᵀ`: `x` `[rows, in]`, `weight` `[out, in]`, result `[rows, out]`.
pub fn lora_linear(x: Tensor<2>, weight: Tensor<2>, branch: Branch) -> Tensor<2> {
    let Branch { a, b, scaling } = branch;
    fused!(x => lora_linear(
        x.into_dispatch(), weight.into_dispatch(), a.into_dispatch(), b.into_dispatch(), scaling));
    composed::linear(x.clone(), weight) + composed::linear(composed::linear(x, a), b) * scaling
}

/// `x / √(mean(x²) + ε) · weight` over rows of `x` `[rows, width]`; `weight` `[width]`.
/// Zhang & Sennrich 2019, arXiv:1910.07467.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, epsilon: f64) -> Tensor<2> {
    fused!(x => rms_norm(x.into_dispatch(), weight.into_dispatch(), epsilon));
    composed::rms_norm(x, weight, epsilon)
}

/// `silu(gate) · up`, both `[rows, width]`. Shazeer 2020, arXiv:2002.05202.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    fused!(gate => swiglu(gate.into_dispatch(), up.into_dispatch()));
    composed::swiglu(gate, up)
}

/// Rotary positions in the half-split layout of Hugging Face: the halves (a, b) of each head become
/// (a·cos − b·sin, b·cos + a·sin). `x` `[tokens, heads · dim]`; `cos` and `sin` `[tokens, dim / 2]`, never tracked.
/// Su et al. 2021, arXiv:2104.09864.
pub fn rotate(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<2> {
    fused!(x => rotate(x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch()));
    composed::rotate(x, cos, sin)
}

/// Attention with grouped key heads: `q` `[tokens, heads · dim]`, `k` and `v` `[tokens, kv_heads · dim]`, result like
/// `q`. `visibility` says which of the tokens each one sees; scores are multiplied by `scale`.
pub fn attention([q, k, v]: [Tensor<2>; 3], visibility: &Arc<Visibility>, heads: Heads, scale: f64) -> Tensor<2> {
    fused!(q => attention(
        q.into_dispatch(), k.into_dispatch(), v.into_dispatch(), Arc::clone(visibility), heads, scale));
    composed::attention([q, k, v], visibility, heads, scale)
}

/// Writes row `r` of `new` `[rows, kv_heads · dim]` into column `columns[r]` of row `r` of `cache`
/// `[room, kv_heads, capacity, dim]`, in place where nobody else holds the cache. Without gradients.
pub fn write_columns(cache: Tensor<4>, columns: &Arc<Vec<usize>>, new: Tensor<2>) -> Tensor<4> {
    fused!(cache => write_columns(cache.into_dispatch(), new.into_dispatch(), Arc::clone(columns)));
    composed::write_columns(cache, columns, new)
}

/// One query per row against the row's part of a cache: `q` `[rows, heads · dim]`, `keys` and `values`
/// `[room, kv_heads, capacity, dim]`, of whose first rows `view` says what each sees; result like `q`.
/// Without gradients.
pub fn attention_decode(
    q: Tensor<2>,
    [keys, values]: [Tensor<4>; 2],
    view: &Arc<CacheView>,
    heads: Heads,
    scale: f64,
) -> Tensor<2> {
    fused!(q => attention_decode(
        q.into_dispatch(), keys.into_dispatch(), values.into_dispatch(), Arc::clone(view), heads, scale));
    composed::attention_decode(q, [keys, values], view, heads, scale)
}

/// Probabilities `[rows, width]` of logits, and log Σ exp of each row, `[rows]`. Without gradients.
pub fn softmax(logits: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
    #[cfg(feature = "flex")]
    if is_fused(&logits) {
        let (probabilities, normalisers) = Dispatch::softmax(logits.into_dispatch());
        return (Tensor::from_dispatch(probabilities), Tensor::from_dispatch(normalisers));
    }
    composed::softmax(logits)
}
