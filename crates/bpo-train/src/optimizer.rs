use std::collections::BTreeMap;

use bpo_model::{Backward, Parameters};
use burn::tensor::Tensor;

/// AdamW and clipping, with torch's meaning of every number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub epsilon: f64,
    /// Decoupled: weights shrink by `rate · weight_decay`, outside the gradient.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm; 0 leaves them.
    pub max_grad_norm: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 1.0 }
    }
}

/// Gradients of one step by parameter name, added up over its micro-batches.
#[derive(Debug, Clone, Default)]
pub struct Gradients(BTreeMap<String, Tensor<2>>);

impl Gradients {
    /// Adds what a backward pass left on `leaves`.
    pub fn add(&mut self, leaves: &Parameters, gradients: &mut Backward) {
        for (name, leaf) in leaves.iter() {
            if let Some(gradient) = gradients.take(leaf) {
                let sum = match self.0.remove(name) {
                    Some(sum) => sum + gradient,
                    None => gradient,
                };
                self.0.insert(name.to_string(), sum);
            }
        }
    }

    /// The gradient of a parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor<2>> {
        self.0.get(name)
    }

    /// The first parameter whose gradient is not finite.
    pub(crate) fn first_not_finite(&self) -> Option<&str> {
        first_not_finite(self.0.iter().map(|(name, gradient)| (name.as_str(), gradient)))
    }

    /// Euclidean norm over all parameters together, read from the device once. (Burn's own clipping
    /// works on each tensor for itself, which is another algorithm.)
    pub fn norm(&self) -> f64 {
        euclidean(self.0.values())
    }
}

/// Euclidean norm of all parameters together: finite exactly when every one of them is (and their
/// squares are).
pub(crate) fn norm(parameters: &Parameters) -> f64 {
    euclidean(parameters.iter().map(|(_, tensor)| tensor))
}

/// The name of the first of `tensors` whose norm is not finite.
pub(crate) fn first_not_finite<'t>(mut tensors: impl Iterator<Item = (&'t str, &'t Tensor<2>)>) -> Option<&'t str> {
    tensors.find(|(_, tensor)| !euclidean(std::iter::once(*tensor)).is_finite()).map(|(name, _)| name)
}

/// A tensor that cannot be read back counts as not finite.
fn euclidean<'t>(tensors: impl Iterator<Item = &'t Tensor<2>>) -> f64 {
    let squares: Vec<Tensor<1>> = tensors.map(|tensor| (tensor.clone() * tensor.clone()).sum()).collect();
    if squares.is_empty() {
        return 0.0;
    }
    let squares: Vec<f64> = Tensor::cat(squares, 0).try_into_vec_as().unwrap_or_else(|_| vec![f64::NAN]);
    squares.iter().sum::<f64>().sqrt()
}

/// AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) over named matrices. Its state is two more sets of
/// [`Parameters`] and a counter, so that a checkpoint holds all of it.
#[derive(Debug, Clone)]
pub struct AdamW {
    config: AdamWConfig,
    /// Mean gradients.
    pub(crate) first: Parameters,
    /// Mean squared gradients.
    pub(crate) second: Parameters,
    /// Updates so far.
    pub(crate) updates: u64,
    epsilon_hat: bool,
}

impl AdamW {
    /// A new optimiser.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, first: Parameters::new(), second: Parameters::new(), updates: 0, epsilon_hat: false }
    }

    /// A new optimiser that adds epsilon to the root before its bias is corrected, not after as torch does: ε̂ of
    /// Kingma & Ba 2015, arXiv:1412.6980, section 2, and the `transformers.AdamW` of the code released with BPO. In
    /// the first step epsilon then acts as if it were 1/√(1 − beta2) times as large.
    pub fn with_epsilon_hat(config: AdamWConfig) -> Self {
        Self { epsilon_hat: true, ..Self::new(config) }
    }

    /// One update at learning rate `rate`; `norm` is [`Gradients::norm`], computed once by the caller who
    /// checks that it is finite. Parameters without a gradient stay.
    #[must_use]
    pub fn step(&mut self, parameters: &Parameters, gradients: &Gradients, norm: f64, rate: f64) -> Parameters {
        self.updates += 1;
        let AdamWConfig { beta1, beta2, epsilon, weight_decay, max_grad_norm } = self.config;
        let clip = if max_grad_norm > 0.0 && norm > max_grad_norm { max_grad_norm / (norm + 1e-6) } else { 1.0 };
        let correction = |beta: f64| 1.0 - beta.powf(self.updates as f64);
        let (rate1, root2) = (rate / correction(beta1), correction(beta2).sqrt());
        let epsilon = if self.epsilon_hat { epsilon / root2 } else { epsilon };
        parameters.map(|name, weight| {
            let Some(gradient) = gradients.get(name) else { return weight };
            let gradient = gradient.clone() * clip;
            let first = decayed(self.first.get(name), gradient.clone(), beta1);
            let second = decayed(self.second.get(name), gradient.clone() * gradient, beta2);
            let step = first.clone() / (second.clone().sqrt() / root2 + epsilon) * rate1;
            self.first.insert(name.to_string(), first);
            self.second.insert(name.to_string(), second);
            let weight = if weight_decay > 0.0 { weight * (1.0 - rate * weight_decay) } else { weight };
            weight - step
        })
    }
}

fn decayed(mean: Option<&Tensor<2>>, value: Tensor<2>, beta: f64) -> Tensor<2> {
    match mean {
        Some(mean) => mean.clone() * beta + value * (1.0 - beta),
        None => value * (1.0 - beta),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// torch 2.9.1: AdamW(lr=0.1, weight_decay=0.01) on w = [1, -2], gradients [0.5, -1], [0.1, 3] after
    /// clip_grad_norm_(1.0), two steps.
    #[test]
    fn two_steps_are_torchs() {
        let device = Device::flex();
        let config = AdamWConfig { weight_decay: 0.01, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(config);
        let mut parameters = Parameters::new();
        parameters.insert("w".into(), Tensor::from_floats([[1.0, -2.0]], &device));
        for gradient in [[0.5, -1.0], [0.1, 3.0]] {
            let mut gradients = Gradients::default();
            gradients.0.insert("w".into(), Tensor::from_floats([gradient], &device));
            let norm = gradients.norm();
            parameters = optimizer.step(&parameters, &gradients, norm, 0.1);
        }
        let weights: Vec<f32> = parameters.get("w").unwrap().clone().try_into_vec_as().unwrap();
        for (weight, torch) in weights.iter().zip(TORCH) {
            assert!((weight - torch).abs() < 2e-6, "{weights:?}");
        }
    }

    /// By hand, from the first step's formula: 1 − 0.1 · √0.001 · g / (√(0.001 · g²) + ε̂).
    #[test]
    fn epsilon_hat_is_added_before_the_correction() {
        let device = Device::flex();
        let config = AdamWConfig { epsilon: 1e-3, ..AdamWConfig::default() };
        let (mut parameters, mut gradients) = (Parameters::new(), Gradients::default());
        parameters.insert("w".into(), Tensor::from_floats([[1.0]], &device));
        gradients.0.insert("w".into(), Tensor::from_floats([[0.01]], &device));
        let step = |mut optimizer: AdamW| -> f32 {
            optimizer.step(&parameters, &gradients, 0.01, 0.1).get("w").unwrap().clone().into_scalar()
        };
        assert!((step(AdamW::with_epsilon_hat(config)) - 0.975_974_7).abs() < 1e-6);
        assert!((step(AdamW::new(config)) - 0.909_090_9).abs() < 1e-6);
    }

    const TORCH: [f32; 2] = [0.825_749_7, -1.906_893_5];
}
