use bpo_kernels::rotate;
use burn::tensor::{Device, Tensor, TensorData};

use crate::{DecoderConfig, RopeScaling};

/// Rotary angles of one batch: cosines and sines `[tokens, head_dim / 2]`, the same for every head.
///
/// Su et al. 2021, arXiv:2104.09864, in the half-split layout of Hugging Face. Computed on the host for
/// the positions at hand, so there is no table to size and any position works.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Rotation {
    /// `positions`: `[tokens]`.
    pub fn new(frequencies: &[f32], positions: &[u32], device: &Device) -> Self {
        let half = frequencies.len();
        let (mut cos, mut sin) =
            (Vec::with_capacity(positions.len() * half), Vec::with_capacity(positions.len() * half));
        for &position in positions {
            for &frequency in frequencies {
                let (s, c) = (position as f32 * frequency).sin_cos();
                cos.push(c);
                sin.push(s);
            }
        }
        let tensor = |values| Tensor::from_data(TensorData::new(values, [positions.len(), half]), device);
        Self { cos: tensor(cos), sin: tensor(sin) }
    }

    /// Rotates every head of `x` `[tokens, heads · head_dim]`.
    pub fn apply(&self, x: Tensor<2>) -> Tensor<2> {
        rotate(x, self.cos.clone(), self.sin.clone())
    }
}

/// Inverse frequencies of one head, `[head_dim / 2]`.
pub(crate) fn frequencies(config: &DecoderConfig) -> Vec<f32> {
    let dim = config.head_dim as f64;
    (0..config.head_dim / 2)
        .map(|i| {
            let frequency = config.rope_theta.powf(-2.0 * i as f64 / dim);
            scaled(frequency, config.rope_scaling) as f32
        })
        .collect()
}

fn scaled(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::Default => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let wavelength = 2.0 * std::f64::consts::PI / frequency;
            if wavelength > original_max_position_embeddings / low_freq_factor {
                frequency / factor
            } else if wavelength < original_max_position_embeddings / high_freq_factor {
                frequency
            } else {
                let share = (original_max_position_embeddings / wavelength - low_freq_factor)
                    / (high_freq_factor - low_freq_factor);
                (1.0 - share) * frequency / factor + share * frequency
            }
        }
    }
}
