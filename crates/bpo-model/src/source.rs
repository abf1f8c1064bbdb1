//! Where an assembled model's tensors come from.
use std::collections::HashSet;

use burn::tensor::{Device, Tensor, TensorData};

use crate::{
    Checkpoint, Error, Precision,
    init::{INITIALIZER_RANGE, Normal},
    names::Names,
    precision::cast,
};

/// A file, or a random initialisation.
pub(crate) trait Source {
    fn has(&self, name: &str) -> bool;
    /// `[out, in]`, which a file that is `transposed` holds as `[in, out]`.
    fn matrix(&mut self, name: &str, shape: [usize; 2], transposed: bool) -> Result<Tensor<2>, Error>;
    fn vector(&mut self, name: &str, length: usize) -> Result<Tensor<1>, Error>;
    fn precision(&self) -> Precision;
}

/// Reads from a checkpoint, and remembers what it read.
pub(crate) struct FromFile<'a> {
    checkpoint: &'a Checkpoint,
    /// What the file leaves out before every name.
    omitted: &'static str,
    device: Device,
    precision: Precision,
    used: HashSet<String>,
}

impl<'a> FromFile<'a> {
    pub fn new(checkpoint: &'a Checkpoint, device: &Device, precision: Precision) -> Self {
        Self { checkpoint, omitted: "", device: device.clone().inner(), precision, used: HashSet::new() }
    }

    /// As [`FromFile::new`], of a decoder, whose files may leave out its prefix (`GPT2Model`).
    pub fn decoder(checkpoint: &'a Checkpoint, names: &Names, device: &Device, precision: Precision) -> Self {
        let embedding = format!("{}.weight", names.embedding);
        let bare = embedding.strip_prefix(names.prefix).is_some_and(|bare| checkpoint.has(bare));
        let omitted = if bare && !checkpoint.has(&embedding) { names.prefix } else { "" };
        Self { omitted, ..Self::new(checkpoint, device, precision) }
    }

    /// As [`FromFile::new`], of an encoder in f32, whose files may leave out its `prefix` (`BertModel`).
    pub fn encoder(checkpoint: &'a Checkpoint, embeddings: &str, prefix: &'static str, device: &Device) -> Self {
        let words = format!("{embeddings}.word_embeddings.weight");
        let bare = words.strip_prefix(prefix).is_some_and(|bare| checkpoint.has(bare));
        let omitted = if bare && !checkpoint.has(&words) { prefix } else { "" };
        Self { omitted, ..Self::new(checkpoint, device, Precision::default()) }
    }

    /// Refuses a file with weights below `path` that were not read.
    pub fn finish_below(self, path: &str) -> Result<(), Error> {
        let inside = format!("{}.", self.name(path));
        self.finish(|tensor| tensor.starts_with(&inside) && !tensor.ends_with("position_ids"))
    }

    /// Refuses a file with weights of the decoder that were not read.
    pub fn finish_decoder(self, names: &Names) -> Result<(), Error> {
        let omitted = self.omitted;
        self.finish(|tensor| names.holds(omitted, tensor))
    }

    /// Refuses a file with weights that are the model's by `holds` and were not read: computing without them would
    /// compute something else.
    pub fn finish(self, holds: impl Fn(&str) -> bool) -> Result<(), Error> {
        let unused = |tensor: &&str| holds(tensor) && !self.used.contains(*tensor);
        self.checkpoint.names().find(unused).map_or(Ok(()), |tensor| Err(self.checkpoint.unused(tensor)))
    }

    fn name<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(self.omitted).unwrap_or(name)
    }
}

impl Source for FromFile<'_> {
    fn has(&self, name: &str) -> bool {
        self.checkpoint.has(self.name(name))
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2], transposed: bool) -> Result<Tensor<2>, Error> {
        let name = self.name(name);
        self.used.insert(name.to_string());
        let weight = if transposed {
            self.checkpoint.read_transposed(name, shape, &self.device)?
        } else {
            self.checkpoint.read(name, shape, &self.device)?
        };
        Ok(cast(weight, self.precision.weights))
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Tensor<1>, Error> {
        let name = self.name(name);
        self.used.insert(name.to_string());
        self.checkpoint.read(name, [length], &self.device)
    }

    fn precision(&self) -> Precision {
        self.precision
    }
}

/// Makes a head where a file has none: normal with the model's `initializer_range`, biases zero, as transformers does.
/// The same seed gives the same bits.
pub(crate) struct FreshHead {
    normal: Normal,
    deviation: f64,
    /// Names of what was made.
    pub made: Vec<String>,
}

impl FreshHead {
    pub fn new(seed: u64, raw: &serde_json::Value) -> Self {
        let deviation = raw.get("initializer_range").and_then(serde_json::Value::as_f64);
        Self { normal: Normal::new(seed), deviation: deviation.unwrap_or(INITIALIZER_RANGE), made: Vec::new() }
    }

    /// A file with what it lacks of the head.
    pub fn beside<'a, 'f>(
        &'a mut self,
        file: &'a mut FromFile<'f>,
        is_of_head: impl Fn(&str) -> bool + 'a,
    ) -> impl Source {
        Completed { file, fresh: self, is_of_head }
    }

    /// A matrix of the head.
    pub fn matrix(&mut self, name: &str, shape: [usize; 2], device: &Device) -> Tensor<2> {
        self.made.push(name.to_string());
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| (self.normal.draw() * self.deviation) as f32).collect();
        Tensor::from_data(TensorData::new(values, shape), &device.clone().inner())
    }
}

struct Completed<'a, 'f, H> {
    file: &'a mut FromFile<'f>,
    fresh: &'a mut FreshHead,
    is_of_head: H,
}

impl<H: Fn(&str) -> bool> Completed<'_, '_, H> {
    fn is_missing(&self, name: &str) -> bool {
        (self.is_of_head)(name) && !self.file.has(name)
    }
}

impl<H: Fn(&str) -> bool> Source for Completed<'_, '_, H> {
    fn has(&self, name: &str) -> bool {
        self.file.has(name)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2], transposed: bool) -> Result<Tensor<2>, Error> {
        if self.is_missing(name) {
            return Ok(self.fresh.matrix(name, shape, &self.file.device));
        }
        self.file.matrix(name, shape, transposed)
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Tensor<1>, Error> {
        if self.is_missing(name) {
            return Ok(Tensor::zeros([length], &self.file.device));
        }
        self.file.vector(name, length)
    }

    fn precision(&self) -> Precision {
        self.file.precision()
    }
}
