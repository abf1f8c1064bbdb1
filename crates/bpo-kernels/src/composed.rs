//! The same operations of burn's own, for any device and any float type.
use burn::tensor::{
    DType, FloatDType, Tensor,
    activation::{silu, softmax as softmax_of},
};

use crate::{Branch, CacheView, Heads, Visibility, widened};

/// In the float type of `like`.
fn as_type_of<const D: usize>(tensor: Tensor<D>, like: DType) -> Tensor<D> {
    if tensor.dtype() == like { tensor } else { tensor.cast(FloatDType::from(like)) }
}

pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let weight = as_type_of(weight, x.dtype());
    x.matmul(weight.transpose())
}

pub fn linear_transposed(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let weight = as_type_of(weight, x.dtype());
    x.matmul(weight)
}

pub fn lora_linear(x: Tensor<2>, weight: Tensor<2>, branch: Branch) -> Tensor<2> {
    add_lora(linear(x.clone(), weight), x, branch)
}

pub fn add_lora(y: Tensor<2>, x: Tensor<2>, branch: Branch) -> Tensor<2> {
    y + linear(linear(x, branch.a), branch.b) * branch.scaling
}

pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let dtype = x.dtype();
    let x = widened(x);
    let weight = as_type_of(weight, x.dtype());
    let mean_square = (x.clone() * x.clone()).mean_dim(1);
    as_type_of(x / (mean_square + epsilon).sqrt() * weight.unsqueeze::<2>(), dtype)
}

pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    silu(gate) * up
}

pub fn rotate(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<2> {
    let ([tokens, width], half) = (x.dims(), cos.dims()[1]);
    let x = x.reshape([tokens, width / (2 * half), 2 * half]);
    let angles = |angles: Tensor<2>| as_type_of(angles, x.dtype()).unsqueeze_dim::<3>(1);
    let (cos, sin) = (angles(cos), angles(sin));
    let (a, b) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
    let left = a.clone() * cos.clone() - b.clone() * sin.clone();
    let right = b * cos + a * sin;
    Tensor::cat(vec![left, right], 2).reshape([tokens, width])
}

/// Written as matmul, softmax, matmul: burn's fused attention reads masks differently from one backend to the next.
/// The query heads of one key head lie behind each other, so that keys and values are never repeated.
pub fn attention([q, k, v]: [Tensor<2>; 3], visibility: &Visibility, heads: Heads, scale: f64) -> Tensor<2> {
    let (rows, group, kv, dim) = (visibility.rows(), heads.group(), heads.key_value(), heads.dim());
    let time = visibility.queries() / rows;
    let bias = visibility.bias(&q);
    let q = q.reshape([rows, time, kv, group, dim]).permute([0, 2, 3, 1, 4]).reshape([rows, kv, group * time, dim]);
    let heads_first = |x: Tensor<2>| x.reshape([rows, time, kv, dim]).swap_dims(1, 2);
    let scores = (q * scale).matmul(heads_first(k).swap_dims(2, 3)).reshape([rows, kv, group, time, time]);
    let weights = weights_of(scores + bias, 4).reshape([rows, kv, group * time, time]);
    let mixed = weights.matmul(heads_first(v)).reshape([rows, kv, group, time, dim]);
    mixed.permute([0, 3, 1, 2, 4]).reshape([rows * time, kv * group * dim])
}

/// Neighbours that write to one column are written at once.
pub fn write_columns(mut cache: Tensor<4>, columns: &[usize], new: Tensor<2>) -> Tensor<4> {
    let [_, heads, _, dim] = cache.dims();
    let new = new.reshape([columns.len(), heads, 1, dim]);
    let mut row = 0;
    for run in columns.chunk_by(|a, b| a == b) {
        let (rows, column) = (row..row + run.len(), run[0]);
        row = rows.end;
        let new = new.clone().narrow(0, rows.start, run.len());
        cache = cache.slice_assign([rows, 0..heads, column..column + 1, 0..dim], new);
    }
    cache
}

pub fn attention_decode(
    q: Tensor<2>,
    [keys, values]: [Tensor<4>; 2],
    view: &CacheView,
    heads: Heads,
    scale: f64,
) -> Tensor<2> {
    let (kv, group, dim) = (heads.key_value(), heads.group(), heads.dim());
    let (rows, end) = (q.dims()[0], view.end());
    let bias = view.bias(&q);
    let q = q.reshape([rows, kv, group, dim]) * scale;
    let seen = |cache: Tensor<4>| cache.narrow(0, 0, rows).narrow(2, 0, end);
    let scores = q.matmul(seen(keys).swap_dims(2, 3));
    weights_of(scores + bias, 3).matmul(seen(values)).reshape([rows, kv * group * dim])
}

/// What each score's value weighs, in the float type of the scores.
fn weights_of<const D: usize>(scores: Tensor<D>, axis: usize) -> Tensor<D> {
    let dtype = scores.dtype();
    as_type_of(softmax_of(widened(scores), axis), dtype)
}

/// One pass of exp; `log_softmax` would take two.
pub fn softmax(logits: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
    let logits = widened(logits);
    let highest = logits.clone().max_dim(1);
    let exp = (logits - highest.clone()).exp();
    let sum = exp.clone().sum_dim(1);
    (exp / sum.clone(), (sum.log() + highest).squeeze_dim(1))
}
