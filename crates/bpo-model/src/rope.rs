use std::f64::consts::PI;

use bpo_kernels::rotate;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{DecoderConfig, PositionKind, Rope, RopeScaling};

/// Rotary angles of one batch: cosines and sines `[tokens, ⌈rotary_dim / 2⌉]`, the same for every head.
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
    fn new(columns: &Columns, head_dim: usize, positions: &[u32], device: &Device) -> Self {
        let Columns { frequencies, scale } = columns;
        let half = frequencies.len();
        let (mut cos, mut sin) =
            (Vec::with_capacity(positions.len() * half), Vec::with_capacity(positions.len() * half));
        for &position in positions {
            for &frequency in frequencies {
                let (s, c) = (position as f32 * frequency).sin_cos();
                cos.push(c * scale);
                sin.push(s * scale);
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

/// What a model makes positions of.
#[derive(Debug)]
pub(crate) struct Frequencies {
    kind: PositionKind,
    head_dim: usize,
    global: Columns,
    /// Of layers with a window, where they have their own.
    local: Option<Columns>,
}

/// How the columns of a head are rotated.
#[derive(Debug)]
struct Columns {
    /// Inverse frequencies, `[⌈rotary_dim / 2⌉]`.
    frequencies: Vec<f32>,
    /// Cosines and sines are multiplied by it.
    scale: f32,
}

impl Frequencies {
    pub fn new(config: &DecoderConfig) -> Self {
        Self {
            kind: config.positions,
            head_dim: config.head_dim,
            global: Columns::new(&config.rope, config.rotary_dim),
            local: config.local_rope.as_ref().map(|rope| Columns::new(rope, config.rotary_dim)),
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
        let rotation = |columns: &Columns| Box::new(Rotation::new(columns, self.head_dim, positions, device));
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

impl Columns {
    fn new(rope: &Rope, dim: usize) -> Self {
        let plain = (0..dim.div_ceil(2)).map(|i| rope.theta.powf(-2.0 * i as f64 / dim as f64));
        let scale = match rope.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            _ => 1.0,
        };
        let scaled: Vec<f64> = match &rope.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|frequency| frequency / factor).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let (low, high) = (*low_freq_factor, *high_freq_factor);
                plain.map(|f| llama3(f, *factor, [low, high], *original_max_position_embeddings)).collect()
            }
            RopeScaling::LongRope { short_factor, .. } => plain.zip(short_factor).map(|(f, by)| f / by).collect(),
            RopeScaling::Yarn { factor, .. } => {
                let kept = yarn_ramp(rope, dim);
                plain.zip(kept).map(|(f, kept)| f / factor * (1.0 - kept) + f * kept).collect()
            }
        };
        Self { frequencies: scaled.into_iter().map(|frequency| frequency as f32).collect(), scale: scale as f32 }
    }
}

fn llama3(frequency: f64, factor: f64, [low, high]: [f64; 2], original: f64) -> f64 {
    let wavelength = 2.0 * PI / frequency;
    if wavelength > original / low {
        frequency / factor
    } else if wavelength < original / high {
        frequency
    } else {
        let share = (original / wavelength - low) / (high - low);
        (1.0 - share) * frequency / factor + share * frequency
    }
}

/// How much of each frequency YaRN keeps: 1 up to the column that turns `beta_fast` times within the original context, 0
/// from the one that turns `beta_slow` times.
fn yarn_ramp(rope: &Rope, dim: usize) -> Vec<f64> {
    let RopeScaling::Yarn { beta_fast, beta_slow, truncate, original_max_position_embeddings: original, .. } =
        rope.scaling
    else {
        return vec![1.0; dim.div_ceil(2)];
    };
    let column = |turns: f64| dim as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * rope.theta.ln());
    let (first, last) = (column(beta_fast), column(beta_slow));
    let (first, last) = if truncate { (first.floor(), last.ceil()) } else { (first, last) };
    let (first, last) = (first.max(0.0), last.min(dim as f64 - 1.0));
    let width = if first == last { 0.001 } else { last - first };
    (0..dim.div_ceil(2)).map(|i| 1.0 - ((i as f64 - first) / width).clamp(0.0, 1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rotary_pct = 0.25` of GPT-NeoX and heads of twelve columns.
    #[test]
    fn of_three_columns_two_frequencies_are_made() {
        let rope = Rope { theta: 1000.0, scaling: RopeScaling::Default };
        let made = Columns::new(&rope, 3).frequencies;
        assert!(made[0] == 1.0 && (made[1] - 0.01).abs() < 1e-7 && made.len() == 2, "{made:?}");
    }
}
