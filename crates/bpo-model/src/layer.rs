//! A decoder's layer, and how it is put together from the tensors of a file.
use bpo_kernels::Heads;
use burn::tensor::Tensor;

use crate::{
    DecoderConfig, Error, Residual,
    attention::{Attention, Qkv, widths},
    linear::Linear,
    mask::Mask,
    mlp::{Grow, Mlp},
    names::{self, LayerNames},
    norm::Norm,
    rope::Rotation,
    source::Source,
};

#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub attention_norm: Norm,
    pub attention: Attention,
    pub attention_post_norm: Option<Norm>,
    pub mlp_norm: Norm,
    pub mlp: Mlp,
    pub mlp_post_norm: Option<Norm>,
    pub window: Option<usize>,
}

impl Layer {
    /// `x` `[tokens, hidden]` with what attention and the feed-forward block add.
    pub fn forward(&self, c: &DecoderConfig, x: Tensor<2>, rotation: Option<&Rotation>, mask: &Mask) -> Tensor<2> {
        let p = self.attention.project(self.attention_norm.forward(x.clone()), rotation);
        self.after_attention(c, x, self.attention.mix(p, mask))
    }

    /// The rest of the layer, given its input `x` and what attention made of it, both `[tokens, hidden]`.
    pub fn after_attention(&self, c: &DecoderConfig, x: Tensor<2>, mixed: Tensor<2>) -> Tensor<2> {
        let mlp = |x: Tensor<2>| self.mlp.forward(self.mlp_norm.forward(x), c.activation);
        match c.residual {
            Residual::Parallel => x.clone() + mixed + mlp(x),
            Residual::Sequential | Residual::Sandwich => {
                let x = x + post_normed(mixed, self.attention_post_norm.as_ref());
                x.clone() + post_normed(mlp(x), self.mlp_post_norm.as_ref())
            }
        }
    }

    /// In the order in which the layer computes them.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.attention.linears().into_iter().chain(self.mlp.linears())
    }

    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.attention.linears_mut().into_iter().chain(self.mlp.linears_mut())
    }

    pub fn norms_mut(&mut self) -> impl Iterator<Item = &mut Norm> {
        let heads = self.attention.q_norm.as_mut().into_iter().chain(self.attention.k_norm.as_mut());
        let after = self.attention_post_norm.as_mut().into_iter().chain(self.mlp_post_norm.as_mut());
        [&mut self.attention_norm, &mut self.mlp_norm].into_iter().chain(heads).chain(after)
    }

    /// Layer `index` of `source`.
    pub fn read(c: &DecoderConfig, index: usize, source: &mut dyn Source) -> Result<Self, Error> {
        let names = &c.architecture.names();
        let (base, names) = (format!("{}.{index}", names.layers), &names.layer);
        let post_norm = |name: &str, source: &mut dyn Source| match c.residual {
            Residual::Sandwich => norm(c, format!("{base}.{name}"), c.hidden_size, source).map(Some),
            _ => Ok(None),
        };
        Ok(Self {
            attention_norm: norm(c, format!("{base}.{}", names.attention_norm), c.hidden_size, source)?,
            attention: attention(c, index, &format!("{base}.{}", names.attention), source)?,
            attention_post_norm: post_norm(names.attention_post_norm, source)?,
            mlp_norm: norm(c, format!("{base}.{}", names.mlp_norm), c.hidden_size, source)?,
            mlp: mlp(c, &base, names, source)?,
            mlp_post_norm: post_norm(names.mlp_post_norm, source)?,
            window: c.windows[index],
        })
    }
}

fn post_normed(x: Tensor<2>, norm: Option<&Norm>) -> Tensor<2> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}

fn attention(c: &DecoderConfig, index: usize, base: &str, source: &mut dyn Source) -> Result<Attention, Error> {
    let (names, heads, hidden) = (&c.architecture.names().layer, c.heads(), c.hidden_size);
    let path = |name: &str| format!("{base}.{name}");
    let head_norm = |name: &str, source: &mut dyn Source| {
        if c.qk_norm { norm(c, path(name), c.head_dim, source).map(Some) } else { Ok(None) }
    };
    Ok(Attention {
        qkv: qkv(c, names, heads, path, source)?,
        o: linear(path(names.output), [hidden, widths(heads)[0]], c.output_bias, source)?,
        q_norm: head_norm("q_norm", source)?,
        k_norm: head_norm("k_norm", source)?,
        heads,
        scale: c.layer_scale(index),
        softcap: c.attention_softcap,
    })
}

fn qkv(
    c: &DecoderConfig,
    names: &LayerNames,
    heads: Heads,
    path: impl Fn(&str) -> String,
    source: &mut dyn Source,
) -> Result<Qkv, Error> {
    let [q, kv] = widths(heads);
    let mut one = |name: &str, outputs: usize| linear(path(name), [outputs, c.hidden_size], c.qkv_bias, &mut *source);
    match names.qkv {
        names::Qkv::Three(names) => {
            Ok(Qkv::Three(Box::new([one(names[0], q)?, one(names[1], kv)?, one(names[2], kv)?])))
        }
        names::Qkv::Blocks(name) => one(name, q + 2 * kv).map(Qkv::Blocks),
        names::Qkv::PerHead(name) => one(name, 3 * q).map(Qkv::PerHead),
    }
}

fn mlp(c: &DecoderConfig, base: &str, names: &LayerNames, source: &mut dyn Source) -> Result<Mlp, Error> {
    let (hidden, ffn) = (c.hidden_size, c.intermediate_size);
    let mut one = |name: &str, shape: [usize; 2]| linear(format!("{base}.{name}"), shape, c.mlp_bias, &mut *source);
    let (grow, down) = match names.mlp {
        names::Mlp::Gated { gate, up, down } => {
            (Grow::Gated(Box::new([one(gate, [ffn, hidden])?, one(up, [ffn, hidden])?])), down)
        }
        names::Mlp::Fused { gate_up, down } => (Grow::Fused(one(gate_up, [2 * ffn, hidden])?), down),
        names::Mlp::Plain { up, down } => (Grow::Plain(one(up, [ffn, hidden])?), down),
    };
    Ok(Mlp { grow, down: one(down, [hidden, ffn])? })
}

pub(crate) fn linear(path: String, shape: [usize; 2], bias: bool, source: &mut dyn Source) -> Result<Linear, Error> {
    let weight = source.matrix(&format!("{path}.weight"), shape, names::is_transposed(&path))?;
    let bias = if bias { Some(source.vector(&format!("{path}.bias"), shape[0])?) } else { None };
    Ok(Linear { path, weight, bias, lora: None })
}

pub(crate) fn norm(c: &DecoderConfig, path: String, width: usize, source: &mut dyn Source) -> Result<Norm, Error> {
    Norm::read(path, width, (c.norm, c.norm_eps), source)
}
