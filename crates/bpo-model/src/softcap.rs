//! Soft-capping of Gemma 2 (Riviere et al. 2024, arXiv:2408.00118): z becomes c·tanh(z/c), which stays within ±c.
use bpo_kernels::{Heads, widened};
use burn::tensor::Tensor;

use crate::{
    attention::Projected,
    mask::{CacheMask, Mask},
    precision::cast,
};

/// c·tanh(z/c).
pub(crate) fn capped<const D: usize>(z: Tensor<D>, cap: f64) -> Tensor<D> {
    (z / cap).tanh() * cap
}

/// Attention with soft-capped scores, `[tokens, heads · head_dim]`. Of burn's own operations: the query heads of one key
/// head lie behind each other, so that keys and values are never repeated.
pub(crate) fn attention(p: Projected, mask: &Mask, heads: Heads, scale: f64, cap: f64) -> Tensor<2> {
    let rows = mask.visibility().rows();
    let time = mask.visibility().queries() / rows;
    let (group, kv, dim) = (heads.group(), heads.key_value(), heads.dim());
    let bias = mask.bias(&p.q.device());
    let q = p.q.reshape([rows, time, kv, group, dim]).permute([0, 2, 3, 1, 4]).reshape([rows, kv, group * time, dim]);
    let heads_first = |x: Tensor<2>| x.reshape([rows, time, kv, dim]).swap_dims(1, 2);
    let scores = (q * scale).matmul(heads_first(p.k).swap_dims(2, 3)).reshape([rows, kv, group, time, time]);
    let dtype = scores.dtype().into();
    let weights =
        cast(softmax::<5>(capped(widened(scores), cap) + bias), dtype).reshape([rows, kv, group * time, time]);
    let mixed = weights.matmul(heads_first(p.v)).reshape([rows, kv, group, time, dim]);
    mixed.permute([0, 3, 1, 2, 4]).reshape([rows * time, kv * group * dim])
}

/// [`attention`] of one query per row, `[rows, heads · head_dim]`, on a cache `[rows, kv_heads, capacity, head_dim]`.
pub(crate) fn attention_decode(
    q: Tensor<2>,
    [keys, values]: [Tensor<4>; 2],
    mask: &CacheMask,
    heads: Heads,
    scale: f64,
    cap: f64,
) -> Tensor<2> {
    let (kv, group, dim) = (heads.key_value(), heads.group(), heads.dim());
    let (rows, end) = (q.dims()[0], mask.view().end());
    let bias = mask.bias(&q.device());
    let q = q.reshape([rows, kv, group, dim]) * scale;
    let seen = |cache: Tensor<4>| cache.narrow(0, 0, rows).narrow(2, 0, end);
    let scores = q.matmul(seen(keys).swap_dims(2, 3));
    let dtype = scores.dtype().into();
    let weights = cast(softmax::<4>(capped(widened(scores), cap) + bias), dtype);
    weights.matmul(seen(values)).reshape([rows, kv * group * dim])
}

/// Over the last axis. burn's own rounds otherwise where gradients are tracked than where they are not, and a layer that
/// is computed twice must come out the same.
fn softmax<const D: usize>(scores: Tensor<D>) -> Tensor<D> {
    let exp = (scores.clone() - scores.detach().max_dim(D - 1)).exp();
    exp.clone() / exp.sum_dim(D - 1)
}
