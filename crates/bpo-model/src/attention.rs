use burn::tensor::{Tensor, activation::softmax};

use crate::{config::DecoderConfig, decoder::RmsNorm, linear::Linear, rope::Rotation};

/// Causal self-attention with grouped key-value heads (Ainslie et al. 2023, arXiv:2305.13245).
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    pub q_norm: Option<RmsNorm>,
    pub k_norm: Option<RmsNorm>,
}

/// Rotated queries and keys, and values, of one batch.
pub(crate) struct Projected {
    /// `[rows, kv_heads, group · time, head_dim]`: the query heads of one key head lie behind each other,
    /// so that keys and values are never repeated.
    pub q: Tensor<4>,
    /// `[rows, kv_heads, time, head_dim]`.
    pub k: Tensor<4>,
    /// `[rows, kv_heads, time, head_dim]`.
    pub v: Tensor<4>,
}

impl Attention {
    /// `x`: `[rows · time, hidden]`.
    pub fn project(&self, config: &DecoderConfig, x: Tensor<2>, rows: usize, rotation: &Rotation) -> Projected {
        let time = x.dims()[0] / rows;
        let (kv, group, dim) = (config.num_key_value_heads, config.group(), config.head_dim);
        let heads = |x: Tensor<2>, heads: usize| x.reshape([rows, time, heads, dim]);
        let q = normed(heads(self.q.forward(x.clone()), kv * group), self.q_norm.as_ref());
        let k = normed(heads(self.k.forward(x.clone()), kv), self.k_norm.as_ref());
        let v = heads(self.v.forward(x), kv);
        let q = rotation.apply(q) * (dim as f64).powf(-0.5);
        let q = q.reshape([rows, time, kv, group, dim]).permute([0, 2, 3, 1, 4]);
        Projected {
            q: q.reshape([rows, kv, group * time, dim]),
            k: rotation.apply(k).swap_dims(1, 2),
            v: v.swap_dims(1, 2),
        }
    }

    /// Mixes `v` `[rows, kv_heads, keys, head_dim]` by the scores of `q` against `k` plus `bias`
    /// `[rows, 1, group · time, keys]`; returns `[rows · time, hidden]`.
    ///
    /// Written as matmul, softmax, matmul: burn's fused attention reads masks differently from one
    /// backend to the next.
    pub fn mix(&self, config: &DecoderConfig, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Tensor<4>) -> Tensor<2> {
        let (kv, group, dim) = (config.num_key_value_heads, config.group(), config.head_dim);
        let [rows, _, queries, _] = q.dims();
        let time = queries / group;
        let weights = softmax(q.matmul(k.swap_dims(2, 3)) + bias, 3);
        let mixed = weights.matmul(v).reshape([rows, kv, group, time, dim]).permute([0, 3, 1, 2, 4]);
        self.o.forward(mixed.reshape([rows * time, kv * group * dim]))
    }
}

fn normed(x: Tensor<4>, norm: Option<&RmsNorm>) -> Tensor<4> {
    let Some(norm) = norm else { return x };
    let [rows, time, heads, dim] = x.dims();
    norm.forward(x.reshape([rows * time * heads, dim])).reshape([rows, time, heads, dim])
}
