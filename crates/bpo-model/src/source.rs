//! Where an assembled model's tensors come from.
use std::collections::HashSet;

use burn::tensor::{Device, Tensor};

use crate::{Checkpoint, Error, Precision, names::Names, precision::cast};

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
