use bpo_kernels::rotate;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{DecoderConfig, PositionKind, Rope, RopeScaling};

/// Rotary angles of one batch: cosines and sines `[tokens, rotary_dim / 2]`, the same for every head.
///
/// Su et al. 2021, arXiv:2104.09864, in the half-split layout of Hugging Face. Computed on the host for
/// the positions at hand, so there is no table to size and any position works.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    cos: Tensor<2>,
    sin: Tensor<2>,
    head_dim: usize,
}

impl Rotation {
    /// `positions`: `[tokens]`.
    fn new(frequencies: &[f32], head_dim: usize, positions: &[u32], device: &Device) -> Self {
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
        Self { cos: tensor(cos), sin: tensor(sin), head_dim }
    }

    /// Rotates every head of `x` `[tokens, heads · head_dim]`: its first columns, where there are fewer angles.
    pub fn apply(&self, x: Tensor<2>) -> Tensor<2> {
        let rotated = 2 * self.cos.dims()[1];
        if rotated == self.head_dim {
            return rotate(x, self.cos.clone(), self.sin.clone());
        }
        let ([tokens, width], rest) = (x.dims(), self.head_dim - rotated);
        let heads = width / self.head_dim;
        let x = x.reshape([tokens, heads, self.head_dim]);
        let first = x.clone().narrow(2, 0, rotated).reshape([tokens, heads * rotated]);
        let first = rotate(first, self.cos.clone(), self.sin.clone()).reshape([tokens, heads, rotated]);
        Tensor::cat(vec![first, x.narrow(2, rotated, rest)], 2).reshape([tokens, width])
    }
}

/// What a model makes positions of: inverse frequencies of a head's columns, `[rotary_dim / 2]` each.
#[derive(Debug)]
pub(crate) struct Frequencies {
    kind: PositionKind,
    head_dim: usize,
    global: Vec<f32>,
    /// Of layers with a window, where they have their own.
    local: Option<Vec<f32>>,
}

impl Frequencies {
    pub fn new(config: &DecoderConfig) -> Self {
        Self {
            kind: config.positions,
            head_dim: config.head_dim,
            global: frequencies(config.rope, config.rotary_dim),
            local: config.local_rope.map(|rope| frequencies(rope, config.rotary_dim)),
        }
    }

    /// `positions`: `[tokens]`.
    pub fn places(&self, positions: &[u32], device: &Device) -> Places {
        if self.kind == PositionKind::Learned {
            let positions: Vec<i64> = positions.iter().map(|&position| i64::from(position)).collect();
            let length = positions.len();
            let positions = Tensor::from_data(TensorData::new(positions, [length]), device);
            return Places::Learned(Box::new(positions));
        }
        let rotation = |frequencies: &Vec<f32>| Box::new(Rotation::new(frequencies, self.head_dim, positions, device));
        Places::Rotary { global: rotation(&self.global), local: self.local.as_ref().map(rotation) }
    }
}

/// Where the tokens of a batch stand, as its model reads it.
#[derive(Debug, Clone)]
pub(crate) enum Places {
    Rotary {
        global: Box<Rotation>,
        local: Option<Box<Rotation>>,
    },
    /// Rows of the table of positions, `[tokens]`.
    Learned(Box<Tensor<1, Int>>),
}

impl Places {
    /// What layers with this window rotate by.
    pub fn rotation(&self, window: Option<usize>) -> Option<&Rotation> {
        match self {
            Self::Rotary { local: Some(local), .. } if window.is_some() => Some(local),
            Self::Rotary { global, .. } => Some(global),
            Self::Learned(_) => None,
        }
    }
}

fn frequencies(rope: Rope, dim: usize) -> Vec<f32> {
    let frequency = |i: usize| rope.theta.powf(-2.0 * i as f64 / dim as f64);
    (0..dim / 2).map(|i| scaled(frequency(i), rope.scaling) as f32).collect()
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
