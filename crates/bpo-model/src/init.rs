use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::{Decoder, DecoderConfig, Error, NormKind, Precision, decoder::HeadKind, source::Source};

/// Standard deviation of new weights when `config.json` names none, as in transformers.
pub(crate) const INITIALIZER_RANGE: f64 = 0.02;

/// Most scalars of a model with random weights.
const MAX_SCALARS: u64 = 1 << 32;

impl Decoder {
    /// A model with random weights as transformers initialises them: normal with standard deviation
    /// `initializer_range` for matrices, zero biases, unit norms. The same seed gives the same bits.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for more than 2³² scalars (16 GiB in f32): those come from a file, or not at all.
    pub fn random(config: DecoderConfig, seed: u64, device: &Device) -> Result<Self, Error> {
        let scalars = config.scalars();
        if scalars > MAX_SCALARS {
            return Err(Error::Unsupported {
                path: "config.json".into(),
                key: "its sizes".into(),
                value: format!("{scalars} parameters"),
                supported: format!("from random weights: up to {MAX_SCALARS}"),
            });
        }
        let deviation = config.raw.get("initializer_range").and_then(serde_json::Value::as_f64);
        let norm = if config.norm == NormKind::RmsUnitOffset { 0.0 } else { 1.0 };
        let head = config.architecture.names().head;
        let device = device.clone().inner();
        let mut source =
            Random { normal: Normal::new(seed), deviation: deviation.unwrap_or(INITIALIZER_RANGE), norm, head, device };
        Self::assemble(config, HeadKind::LanguageModel, &mut source)
    }
}

struct Random {
    normal: Normal,
    deviation: f64,
    norm: f32,
    head: &'static str,
    device: Device,
}

impl Source for Random {
    fn has(&self, name: &str) -> bool {
        name.strip_suffix(".weight") != Some(self.head)
    }

    fn matrix(&mut self, _: &str, shape: [usize; 2], _: bool) -> Result<Tensor<2>, Error> {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| (self.normal.draw() * self.deviation) as f32).collect();
        Ok(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }

    fn precision(&self) -> Precision {
        Precision::default()
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Tensor<1>, Error> {
        let value = if name.ends_with(".bias") { 0.0 } else { self.norm };
        Ok(Tensor::from_data(TensorData::new(vec![value; length], [length]), &self.device))
    }
}

/// Random numbers of one seed, the same on every platform.
pub(crate) struct Normal(ChaCha8Rng);

impl Normal {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box & Muller 1958).
    pub fn draw(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
