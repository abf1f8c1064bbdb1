use bpo_kernels::{rms_norm, widened};
use burn::tensor::Tensor;

use crate::{Error, NormKind, precision::cast, source::Source};

/// What normalises rows; see [`NormKind`].
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    pub path: String,
    /// `[width]`, as in the file.
    pub weight: Tensor<1>,
    /// `[width]`, of LayerNorm.
    pub bias: Option<Tensor<1>>,
    pub epsilon: f64,
    pub kind: NormKind,
}

impl Norm {
    pub fn read(
        path: String,
        width: usize,
        (kind, epsilon): (NormKind, f64),
        source: &mut dyn Source,
    ) -> Result<Self, Error> {
        let weight = source.vector(&format!("{path}.weight"), width)?;
        let bias = match kind {
            NormKind::Layer => Some(source.vector(&format!("{path}.bias"), width)?),
            NormKind::Rms | NormKind::RmsUnitOffset => None,
        };
        Ok(Self { path, weight, bias, epsilon, kind })
    }

    /// A LayerNorm.
    pub fn layer(path: String, width: usize, epsilon: f64, source: &mut dyn Source) -> Result<Self, Error> {
        Self::read(path, width, (NormKind::Layer, epsilon), source)
    }

    /// `x`: `[rows, width]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self.kind {
            NormKind::Rms => rms_norm(x, self.weight.clone(), self.epsilon),
            NormKind::RmsUnitOffset => rms_norm(x, self.weight.clone() + 1.0, self.epsilon),
            NormKind::Layer => self.layer_norm(x),
        }
    }

    fn layer_norm(&self, x: Tensor<2>) -> Tensor<2> {
        let dtype = x.dtype().into();
        let x = widened(x);
        let centred = x.clone() - x.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        let y = centred / (variance + self.epsilon).sqrt() * self.weight.clone().unsqueeze::<2>();
        cast(self.bias.iter().fold(y, |y, bias| y + bias.clone().unsqueeze()), dtype)
    }

    /// The weights by name.
    pub fn weights_mut(&mut self) -> impl Iterator<Item = (String, &mut Tensor<1>)> {
        let bias = self.bias.as_mut().map(|bias| (format!("{}.bias", self.path), bias));
        [(format!("{}.weight", self.path), &mut self.weight)].into_iter().chain(bias)
    }
}
