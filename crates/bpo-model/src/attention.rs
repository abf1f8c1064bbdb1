use std::sync::Arc;

use bpo_kernels::{CacheView, Heads, Visibility, attention, attention_decode};
use burn::tensor::Tensor;

use crate::{decoder::RmsNorm, linear::Linear, rope::Rotation};

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
    /// `[tokens, heads · head_dim]`.
    pub q: Tensor<2>,
    /// `[tokens, kv_heads · head_dim]`.
    pub k: Tensor<2>,
    /// `[tokens, kv_heads · head_dim]`.
    pub v: Tensor<2>,
}

impl Attention {
    /// `x`: `[tokens, hidden]`.
    pub fn project(&self, x: Tensor<2>, rotation: &Rotation) -> Projected {
        Projected {
            q: rotation.apply(normed(self.q.forward(x.clone()), self.q_norm.as_ref())),
            k: rotation.apply(normed(self.k.forward(x.clone()), self.k_norm.as_ref())),
            v: self.v.forward(x),
        }
    }

    /// Every token's mix of the values it sees, `[tokens, hidden]`.
    pub fn mix(&self, heads: Heads, p: Projected, visibility: &Arc<Visibility>) -> Tensor<2> {
        self.o.forward(attention([p.q, p.k, p.v], visibility, heads, scale(heads)))
    }

    /// As [`Attention::mix`] for one token per row, whose keys and values stand in a cache
    /// `[rows, kv_heads, capacity, head_dim]`.
    pub fn mix_cached(&self, heads: Heads, q: Tensor<2>, cache: [Tensor<4>; 2], view: &Arc<CacheView>) -> Tensor<2> {
        self.o.forward(attention_decode(q, cache, view, heads, scale(heads)))
    }
}

/// 1 / √head_dim.
fn scale(heads: Heads) -> f64 {
    (heads.dim() as f64).powf(-0.5)
}

/// Normalises each head of `x` `[tokens, heads · head_dim]` by itself.
fn normed(x: Tensor<2>, norm: Option<&RmsNorm>) -> Tensor<2> {
    let Some(norm) = norm else { return x };
    let ([tokens, width], [dim]) = (x.dims(), norm.weight.dims());
    norm.forward(x.reshape([tokens * width / dim, dim])).reshape([tokens, width])
}
