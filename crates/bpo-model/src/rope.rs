use burn::tensor::{Device, Tensor, TensorData};

use crate::{DecoderConfig, RopeScaling};

/// Rotary angles of one batch: cosines and sines `[rows, time, 1, head_dim / 2]`, broadcast over heads.
///
/// Su et al. 2021, arXiv:2104.09864, in the half-split layout of Hugging Face. Computed on the host for
/// the positions at hand, so there is no table to size and any position works.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotation {
    /// `positions`: `[rows, time]`, row-major.
    pub fn new(frequencies: &[f32], positions: &[u32], rows: usize, time: usize, device: &Device) -> Self {
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
        let tensor = |values| Tensor::from_data(TensorData::new(values, [rows, time, 1, half]), device);
        Self { cos: tensor(cos), sin: tensor(sin) }
    }

    /// Rotates `x` `[rows, time, heads, head_dim]`: halves (a, b) become (a·cos − b·sin, b·cos + a·sin).
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let left = a.clone() * self.cos.clone() - b.clone() * self.sin.clone();
        let right = b * self.cos.clone() + a * self.sin.clone();
        Tensor::cat(vec![left, right], 3)
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
