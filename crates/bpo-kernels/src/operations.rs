use std::sync::Arc;

#[cfg(feature = "flex")]
use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Device, FloatDType, Tensor};

#[cfg(feature = "flex")]
use crate::fused::FusedOps;
use crate::{CacheView, Heads, Visibility, composed};

/// Whether operations on `tensor` run this crate's kernels.
pub fn is_fused<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32 && computes_in_f32(&tensor.device())
}

/// Whether tensors of `device` run this crate's kernels when they are f32: then weights may be bf16 while the
/// arithmetic is f32.
#[cfg(feature = "flex")]
pub fn computes_in_f32(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Flex(_))
}

/// Whether tensors of `device` run this crate's kernels when they are f32: in this build none do.
#[cfg(not(feature = "flex"))]
pub fn computes_in_f32(_: &Device) -> bool {
    false
}

/// 16-bit numbers as f32, others as they are: what sums and exponentials are computed in.
pub fn widened<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => tensor.cast(FloatDType::F32),
        _ => tensor,
    }
}

/// Runs the fused operation where there is one, and returns from the caller. The first tensor's float type is that of
/// all, but for a weight after a `;`, which may be bf16.
macro_rules! fused {
    ($first:ident $(; $weight:ident)? $(, $tensor:ident)* => $operation:ident($($argument:expr),*)) => {
        #[cfg(feature = "flex")]
        if is_fused(&$first) {
            $(assert!(
                matches!($weight.dtype(), DType::F32 | DType::BF16),
                concat!("float type of the weight of ", stringify!($operation))
            );)?
            $(assert_eq!($tensor.dtype(), DType::F32, concat!("float types of ", stringify!($operation)));)*
            return Tensor::from_dispatch(Dispatch::$operation(
                $first.into_dispatch() $(, $weight.into_dispatch())? $(, $tensor.into_dispatch())* $(, $argument)*
            ));
        }
    };
}

/// `x·Wᵀ`: `x` `[rows, in]`, `weight` `[out, in]`, result `[rows, out]` in the float type of `x`; a weight of another is
/// converted, which for bf16 under f32 inputs happens inside the kernels, exactly. A weight that is not tracked costs
/// nothing on the way back.
///
/// # Panics
/// When the widths disagree.
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    assert_eq!(x.dims()[1], weight.dims()[1], "widths of a linear layer");
    fused!(x; weight => linear());
    composed::linear(x, weight)
}

/// `x·W`: `x` `[rows, out]`, `weight` `[out, in]` of any float type, result `[rows, in]` in that of `x`. Without
/// gradients.
///
/// # Panics
/// When the widths disagree.
pub fn linear_transposed(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    assert_eq!(x.dims()[1], weight.dims()[0], "widths of a transposed linear layer");
    let (x, weight) = (x.detach(), weight.detach());
    fused!(x; weight => linear_transposed());
    composed::linear_transposed(x, weight)
}

/// A LoRA branch (Hu et al. 2021, arXiv:2106.09685).
#[derive(Debug, Clone)]
pub struct Branch {
    /// `[rank, in]`.
    pub a: Tensor<2>,
    /// `[out, rank]`.
    pub b: Tensor<2>,
    /// What the branch's result is multiplied by: `alpha / rank`, or `alpha / √rank`.
    pub scaling: f64,
}

/// `x·Wᵀ + s·(x·Aᵀ)·Bᵀ`: `x` `[rows, in]`, `weight` `[out, in]`, result `[rows, out]` in the float type of `x`, to which
/// weight and branch are converted as in [`linear`].
///
/// # Panics
/// When the shapes disagree.
pub fn lora_linear(x: Tensor<2>, weight: Tensor<2>, branch: Branch) -> Tensor<2> {
    let Branch { a, b, scaling } = branch;
    let ([outputs, inputs], [rank, _]) = (weight.dims(), a.dims());
    assert_eq!(x.dims()[1], inputs, "widths of a linear layer");
    assert!(a.dims() == [rank, inputs] && b.dims() == [outputs, rank], "shapes of a LoRA branch");
    fused!(x; weight, a, b => lora_linear(scaling));
    composed::lora_linear(x, weight, Branch { a, b, scaling })
}

/// `y + s·(x·Aᵀ)·Bᵀ`: a branch that reads another input than its layer, as it does under dropout. `y` `[rows, out]`,
/// `x` `[rows, in]`, result like `y`.
///
/// # Panics
/// When the shapes disagree.
pub fn add_lora(y: Tensor<2>, x: Tensor<2>, branch: Branch) -> Tensor<2> {
    let Branch { a, b, scaling } = branch;
    let ([rows, inputs], [rank, outputs]) = (x.dims(), [a.dims()[0], b.dims()[0]]);
    assert_eq!(y.dims(), [rows, outputs], "shape of what a LoRA branch is added to");
    assert!(a.dims() == [rank, inputs] && b.dims() == [outputs, rank], "shapes of a LoRA branch");
    fused!(y, x, a, b => add_lora(scaling));
    composed::add_lora(y, x, Branch { a, b, scaling })
}

/// `x / √(mean(x²) + ε) · weight` over rows of `x` `[rows, width]`; `weight` `[width]`.
/// Zhang & Sennrich 2019, arXiv:1910.07467.
///
/// # Panics
/// When the widths disagree.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, epsilon: f64) -> Tensor<2> {
    assert_eq!(x.dims()[1], weight.dims()[0], "width of a norm");
    fused!(x, weight => rms_norm(epsilon));
    composed::rms_norm(x, weight, epsilon)
}

/// `silu(gate) · up`, both `[rows, width]`. Shazeer 2020, arXiv:2002.05202.
///
/// # Panics
/// When the shapes disagree.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "shapes of gate and up");
    fused!(gate, up => swiglu());
    composed::swiglu(gate, up)
}

/// Rotary positions in the half-split layout of Hugging Face: the halves (a, b) of each head become
/// (a·cos − b·sin, b·cos + a·sin). `x` `[tokens, heads · dim]`; `cos` and `sin` `[tokens, dim / 2]`, constants.
/// Su et al. 2021, arXiv:2104.09864.
///
/// # Panics
/// When the shapes disagree.
pub fn rotate(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<2> {
    let ([tokens, width], [_, half]) = (x.dims(), cos.dims());
    assert!(cos.dims() == [tokens, half] && sin.dims() == [tokens, half], "shapes of rotary angles");
    assert!(half > 0 && width.is_multiple_of(2 * half), "heads of {width} columns under {half} angles");
    let (cos, sin) = (cos.detach(), sin.detach());
    fused!(x, cos, sin => rotate());
    composed::rotate(x, cos, sin)
}

/// Attention with grouped key heads: `q` `[tokens, heads · dim]`, `k` and `v` `[tokens, kv_heads · dim]`, result like
/// `q`. `visibility` says which of the tokens each one sees; scores are multiplied by `scale`.
///
/// # Panics
/// When the shapes disagree.
pub fn attention([q, k, v]: [Tensor<2>; 3], visibility: &Arc<Visibility>, heads: Heads, scale: f64) -> Tensor<2> {
    let tokens = visibility.queries();
    assert_eq!(q.dims(), [tokens, heads.query_width()], "shape of queries");
    assert!(k.dims() == [tokens, heads.key_value_width()] && v.dims() == k.dims(), "shapes of keys and values");
    fused!(q, k, v => attention(Arc::clone(visibility), heads, scale));
    composed::attention([q, k, v], visibility, heads, scale)
}

/// Writes row `r` of `new` `[rows, kv_heads · dim]` into column `columns[r]` of row `r` of `cache`
/// `[room, kv_heads, capacity, dim]`, in place where nobody else holds the cache. Without gradients.
///
/// # Panics
/// When the shapes disagree or a column is outside the cache.
pub fn write_columns(cache: Tensor<4>, columns: &Arc<Vec<usize>>, new: Tensor<2>) -> Tensor<4> {
    let [room, heads, capacity, dim] = cache.dims();
    assert_eq!(new.dims(), [columns.len(), heads * dim], "shape of new columns");
    assert!(columns.len() <= room && columns.iter().all(|&column| column < capacity), "columns of another cache");
    let (cache, new) = (cache.detach(), new.detach());
    fused!(cache, new => write_columns(Arc::clone(columns)));
    composed::write_columns(cache, columns, new)
}

/// One query per row against the row's part of a cache: `q` `[rows, heads · dim]`, `keys` and `values`
/// `[room, kv_heads, capacity, dim]`, of whose first rows `view` says what each sees; result like `q`.
/// Without gradients.
///
/// # Panics
/// When the shapes disagree.
pub fn attention_decode(
    q: Tensor<2>,
    [keys, values]: [Tensor<4>; 2],
    view: &Arc<CacheView>,
    heads: Heads,
    scale: f64,
) -> Tensor<2> {
    let [room, kv, capacity, dim] = keys.dims();
    assert!(values.dims() == keys.dims() && [kv, dim] == [heads.key_value(), heads.dim()], "shapes of a cache");
    assert!(view.columns().len() <= room && view.end() <= capacity, "a view of another cache");
    assert_eq!(q.dims(), [view.columns().len(), heads.query_width()], "shape of queries");
    let (q, keys, values) = (q.detach(), keys.detach(), values.detach());
    fused!(q, keys, values => attention_decode(Arc::clone(view), heads, scale));
    composed::attention_decode(q, [keys, values], view, heads, scale)
}

/// Probabilities `[rows, width]` of logits, and log Σ exp of each row in nats, `[rows]`; of 16-bit logits both are f32.
/// Without gradients.
pub fn softmax(logits: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
    let logits = logits.detach();
    #[cfg(feature = "flex")]
    if is_fused(&logits) {
        let (probabilities, normalisers) = Dispatch::softmax(logits.into_dispatch());
        return (Tensor::from_dispatch(probabilities), Tensor::from_dispatch(normalisers));
    }
    composed::softmax(logits)
}
