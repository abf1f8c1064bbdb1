use bpo_kernels::{Branch, add_lora, linear, lora_linear};
use burn::tensor::{Distribution, Tensor};

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
}

impl Linear {
    /// `x`: `[rows, in]`; returns `[rows, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weight.clone();
        let y = match &self.lora {
            Some(lora) if lora.dropout > 0.0 => {
                add_lora(linear(x.clone(), weight), dropped(x, lora.dropout), lora.branch())
            }
            Some(lora) => lora_linear(x, weight, lora.branch()),
            None => linear(x, weight),
        };
        match &self.bias {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }

    /// The weight a plain layer needs to compute the same: `W + s·B·A`, `[out, in]`.
    pub fn effective_weight(&self) -> Tensor<2> {
        match &self.lora {
            Some(lora) => self.weight.clone() + lora.b.clone().matmul(lora.a.clone()) * lora.scaling,
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
}

/// Inverted dropout by the device's random stream, which the trainer seeds by step.
fn dropped(x: Tensor<2>, share: f64) -> Tensor<2> {
    let keep = Tensor::<2>::random(x.dims(), Distribution::Bernoulli(1.0 - share), &x.device().inner());
    x * (keep / (1.0 - share))
}
