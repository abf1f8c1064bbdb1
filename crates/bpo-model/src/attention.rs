use bpo_kernels::{Heads, attention, attention_decode};
use burn::tensor::Tensor;

use crate::{
    linear::Linear,
    mask::{CacheMask, Mask},
    norm::Norm,
    rope::Rotation,
    softcap,
};

/// Causal self-attention with grouped key-value heads (Ainslie et al. 2023, arXiv:2305.13245).
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub qkv: Qkv,
    pub o: Linear,
    pub q_norm: Option<Norm>,
    pub k_norm: Option<Norm>,
    pub heads: Heads,
    /// What scores are multiplied by.
    pub scale: f64,
    /// Scores z become c·tanh(z/c).
    pub softcap: Option<f64>,
}

/// Where queries, keys and values come from.
#[derive(Debug, Clone)]
pub(crate) enum Qkv {
    /// A layer each.
    Three(Box<[Linear; 3]>),
    /// One layer: all queries, all keys, all values.
    Blocks(Linear),
    /// One layer: query, key and value of each head in turn.
    PerHead(Linear),
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
    /// `x`: `[tokens, hidden]`; no rotation where positions are learned.
    pub fn project(&self, x: Tensor<2>, rotation: Option<&Rotation>) -> Projected {
        let placed = |x: Tensor<2>, norm: &Option<Norm>| {
            let x = normed(x, norm.as_ref());
            match rotation {
                Some(rotation) => rotation.apply(x),
                None => x,
            }
        };
        let [q, k, v] = self.qkv.forward(x, self.heads);
        Projected { q: placed(q, &self.q_norm), k: placed(k, &self.k_norm), v }
    }

    /// Every token's mix of the values it sees, `[tokens, hidden]`.
    pub fn mix(&self, p: Projected, mask: &Mask) -> Tensor<2> {
        self.o.forward(match self.softcap {
            None => attention([p.q, p.k, p.v], mask.visibility(), self.heads, self.scale),
            Some(cap) => softcap::attention(p, mask, self.heads, self.scale, cap),
        })
    }

    /// As [`Attention::mix`] for one token per row, whose keys and values stand in a cache
    /// `[rows, kv_heads, capacity, head_dim]`.
    pub fn mix_cached(&self, q: Tensor<2>, cache: [Tensor<4>; 2], mask: &CacheMask) -> Tensor<2> {
        self.o.forward(match self.softcap {
            None => attention_decode(q, cache, mask.view(), self.heads, self.scale),
            Some(cap) => softcap::attention_decode(q, cache, mask, self.heads, self.scale, cap),
        })
    }

    pub fn linears(&self) -> Vec<&Linear> {
        match &self.qkv {
            Qkv::Three(three) => three.iter().chain([&self.o]).collect(),
            Qkv::Blocks(one) | Qkv::PerHead(one) => vec![one, &self.o],
        }
    }

    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match &mut self.qkv {
            Qkv::Three(three) => three.iter_mut().chain([&mut self.o]).collect(),
            Qkv::Blocks(one) | Qkv::PerHead(one) => vec![one, &mut self.o],
        }
    }
}

impl Qkv {
    fn forward(&self, x: Tensor<2>, heads: Heads) -> [Tensor<2>; 3] {
        match self {
            Self::Three(three) => three.each_ref().map(|linear| linear.forward(x.clone())),
            Self::Blocks(one) => {
                let (all, [q, kv]) = (one.forward(x), widths(heads));
                [(0, q), (q, kv), (q + kv, kv)].map(|(start, width)| all.clone().narrow(1, start, width))
            }
            Self::PerHead(one) => {
                let (all, [q, kv]) = (one.forward(x), widths(heads));
                let tokens = all.dims()[0];
                let all = all.reshape([tokens, heads.query(), 3, heads.dim()]);
                [(0, q), (1, kv), (2, kv)].map(|(part, width)| all.clone().narrow(2, part, 1).reshape([tokens, width]))
            }
        }
    }
}

/// Columns of all queries, and of all keys.
pub(crate) fn widths(heads: Heads) -> [usize; 2] {
    [heads.query() * heads.dim(), heads.key_value() * heads.dim()]
}

/// Normalises each head of `x` `[tokens, heads · head_dim]` by itself.
fn normed(x: Tensor<2>, norm: Option<&Norm>) -> Tensor<2> {
    let Some(norm) = norm else { return x };
    let ([tokens, width], [dim]) = (x.dims(), norm.weight.dims());
    norm.forward(x.reshape([tokens * width / dim, dim])).reshape([tokens, width])
}
