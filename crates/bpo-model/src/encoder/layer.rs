use std::sync::Arc;

use bpo_kernels::{Heads, Visibility, attention};
use burn::tensor::Tensor;

use super::{
    EncoderConfig,
    relative::{Distances, Places, Projections},
};
use crate::{Activation, Error, layer::linear, linear::Linear, norm::Norm, source::Source};

/// Attention and a feed-forward block, each added to what it read and normalised after (Vaswani et al. 2017,
/// arXiv:1706.03762).
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub qkv: [Linear; 3],
    pub distances: Option<Projections>,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    mlp_norm: Norm,
}

/// Who sees whom in a batch.
pub(super) enum Sight<'a> {
    Visibility(Arc<Visibility>),
    Distances(&'a Distances, Box<Places>),
}

impl Layer {
    pub fn read(c: &EncoderConfig, index: usize, source: &mut dyn Source) -> Result<Self, Error> {
        let (names, hidden) = (c.names, c.hidden_size);
        let base = format!("{}.{index}", names.layers);
        let distances =
            c.relative.as_ref().map(|relative| Projections::read(c, relative, &base, source)).transpose()?;
        let path = |name: &str| format!("{base}.{name}");
        let mut square = |name: &str| linear(path(name), [hidden, hidden], true, &mut *source);
        let qkv = [square(names.qkv[0])?, square(names.qkv[1])?, square(names.qkv[2])?];
        Ok(Self {
            qkv,
            distances,
            output: square(names.output)?,
            attention_norm: Norm::layer(path(names.attention_norm), hidden, c.norm_eps, source)?,
            up: linear(path(names.up), [c.intermediate_size, hidden], true, source)?,
            down: linear(path(names.down), [hidden, c.intermediate_size], true, source)?,
            mlp_norm: Norm::layer(path(names.mlp_norm), hidden, c.norm_eps, source)?,
        })
    }

    /// `x`: `[rows · time, hidden]`.
    pub fn forward(&self, x: Tensor<2>, heads: Heads, activation: Activation, sight: &Sight<'_>) -> Tensor<2> {
        let qkv = self.qkv.each_ref().map(|linear| linear.forward(x.clone()));
        let mixed = match sight {
            Sight::Visibility(visibility) => attention(qkv, visibility, heads, (heads.dim() as f64).powf(-0.5)),
            Sight::Distances(distances, places) => distances.attention(qkv, self, places, heads.query()),
        };
        let x = self.attention_norm.forward(self.output.forward(mixed) + x);
        let grown = activation.of(self.up.forward(x.clone()));
        self.mlp_norm.forward(self.down.forward(grown) + x)
    }

    /// Those of attention first.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let own = self.distances.iter().flat_map(|own| own.key.iter().chain(&own.query));
        self.qkv.iter().chain(own).chain([&self.output, &self.up, &self.down])
    }

    /// As [`Layer::linears`].
    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let own = self.distances.iter_mut().flat_map(|own| own.key.iter_mut().chain(&mut own.query));
        self.qkv.iter_mut().chain(own).chain([&mut self.output, &mut self.up, &mut self.down])
    }

    pub fn norms_mut(&mut self) -> [&mut Norm; 2] {
        [&mut self.attention_norm, &mut self.mlp_norm]
    }
}
