use bpo_kernels::{Branch, add_lora, linear, lora_linear};
use burn::tensor::{Distribution, Tensor};

use crate::precision::cast;

/// `y = x·Wᵀ + b`, plus the LoRA branch `s·(x·Aᵀ)·Bᵀ` where one is attached.
///
/// The branch is two thin products on the frozen layer, so no gradient is ever computed for `W`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// Path of the module in Hugging Face names, e.g. `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// `[out, in]`.
    pub weight: Tensor<2>,
    /// `[out]`.
    pub bias: Option<Tensor<1>>,
    pub lora: Option<LoraBranch>,
}

/// Hu et al. 2021, arXiv:2106.09685.
#[derive(Debug, Clone)]
pub(crate) struct LoraBranch {
    /// `[rank, in]`.
    pub a: Tensor<2>,
    /// `[out, rank]`.
    pub b: Tensor<2>,
    pub scaling: f64,
    /// Share of the branch's inputs zeroed while training.
    pub dropout: f64,
    /// Decides which.
    pub seed: u64,
}

impl Linear {
    /// `x`: `[rows, in]`; returns `[rows, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weight.clone();
        let y = match &self.lora {
            Some(lora) if lora.dropout > 0.0 => add_lora(linear(x.clone(), weight), lora.dropped(x), lora.branch()),
            Some(lora) => lora_linear(x, weight, lora.branch()),
            None => linear(x, weight),
        };
        match &self.bias {
            Some(bias) => {
                let bias = cast(bias.clone(), y.dtype().into());
                y + bias.unsqueeze()
            }
            None => y,
        }
    }

    /// The weight a plain layer needs to compute the same: `W + s·B·A`, `[out, in]`; a sum of both is f32.
    pub fn effective_weight(&self) -> Tensor<2> {
        match &self.lora {
            Some(lora) => {
                cast(self.weight.clone(), lora.b.dtype().into()) + lora.b.clone().matmul(lora.a.clone()) * lora.scaling
            }
            None => self.weight.clone(),
        }
    }

    pub fn shape(&self) -> [usize; 2] {
        self.weight.dims()
    }
}

impl LoraBranch {
    fn branch(&self) -> Branch {
        Branch { a: self.a.clone(), b: self.b.clone(), scaling: self.scaling }
    }

    /// Inverted dropout. The mask comes from the device's random stream, set to the branch's own seed, so that it is
    /// the same whenever the layer is computed again.
    fn dropped(&self, x: Tensor<2>) -> Tensor<2> {
        let (device, keep) = (x.device().inner(), 1.0 - self.dropout);
        device.seed(self.seed);
        let mask = Tensor::<2>::random(x.dims(), Distribution::Bernoulli(keep), &device) / keep;
        x.clone() * cast(mask, x.dtype().into())
    }
}
