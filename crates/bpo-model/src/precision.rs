use std::str::FromStr;

use bpo_kernels::computes_in_f32;
use burn::tensor::{Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use crate::Checkpoint;

/// The `dtype` that a model is asked for in, by transformers' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// What loses nothing: a file's bf16 matrices as they are where the arithmetic is f32 all the same, else f32.
    #[default]
    Auto,
    /// f32 throughout.
    #[serde(alias = "f32")]
    Float32,
    /// bf16 matrices, and bf16 arithmetic where the device computes in it.
    #[serde(alias = "bf16")]
    Bfloat16,
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "float32" | "f32" => Ok(Self::Float32),
            "bfloat16" | "bf16" => Ok(Self::Bfloat16),
            _ => Err("known: auto, float32, bfloat16".into()),
        }
    }
}

impl Dtype {
    /// What that means for this checkpoint on this device.
    pub fn precision(self, checkpoint: &Checkpoint, device: &Device) -> Precision {
        match self {
            Self::Auto if computes_in_f32(device) && checkpoint.has_bf16_matrices() => Precision::bf16(device),
            Self::Auto | Self::Float32 => Precision::default(),
            Self::Bfloat16 => Precision::bf16(device),
        }
    }
}

/// What a decoder's matrices are kept in, and what it computes in. Norms, biases, softmaxes and the log-probs of the
/// head are f32 in any case, and so is everything that is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// Of frozen matrices.
    pub weights: FloatDType,
    /// Of activations and of the products that make them.
    pub activations: FloatDType,
}

impl Default for Precision {
    /// f32 throughout.
    fn default() -> Self {
        Self { weights: FloatDType::F32, activations: FloatDType::F32 }
    }
}

impl Precision {
    /// Matrices in bf16: half of their memory. Where the kernels of bpo-kernels run, the arithmetic stays f32, and a
    /// model whose file is bf16 loses nothing; other devices compute in bf16, as mixed precision does in PyTorch.
    pub fn bf16(device: &Device) -> Self {
        let activations = if computes_in_f32(device) { FloatDType::F32 } else { FloatDType::BF16 };
        Self { weights: FloatDType::BF16, activations }
    }
}

/// The tensor in another float type; itself where it has that type already.
pub(crate) fn cast<const D: usize>(tensor: Tensor<D>, dtype: FloatDType) -> Tensor<D> {
    if FloatDType::from(tensor.dtype()) == dtype { tensor } else { tensor.cast(dtype) }
}
