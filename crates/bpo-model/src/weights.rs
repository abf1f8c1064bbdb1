use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use bpo_files::{
    gguf::Kind,
    safetensors::{self, Dtype, Entries},
};
use burn::tensor::{Device, Tensor, TensorData};
use half::f16;

use crate::{
    Error,
    gguf::{self, Change},
};

/// The tensors of a model directory, of a GGUF file or of bytes in memory: names, shapes and where to read them.
/// Opening reads headers only; each tensor is read when asked for, so a model is in memory once.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    entries: BTreeMap<String, Stored>,
    memory: Option<Vec<u8>>,
}

/// Where a tensor lies.
#[derive(Debug)]
pub(crate) struct Stored {
    pub file: Arc<Path>,
    pub shape: Vec<usize>,
    pub start: u64,
    pub length: usize,
    pub format: Format,
}

/// How its values are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
    Safetensors(Dtype),
    Gguf(Kind, Change, Rounding),
}

/// What becomes of values once they are no longer quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    None,
    /// What converters write, so that a file and the directory made of it are one model, to the bit.
    ToF16,
}

fn rounded(mut values: Vec<f32>) -> Vec<f32> {
    values.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
    values
}

impl Format {
    fn name(self) -> String {
        match self {
            Self::Safetensors(dtype) => format!("{dtype:?}"),
            Self::Gguf(kind, ..) => kind.name().to_owned(),
        }
    }
}

fn stored(entries: Entries) -> BTreeMap<String, Stored> {
    let stored = |(name, entry): (String, safetensors::Entry)| {
        let safetensors::Entry { file, dtype, shape, start, length } = entry;
        (name, Stored { file, shape, start, length, format: Format::Safetensors(dtype) })
    };
    entries.into_iter().map(stored).collect()
}

impl Checkpoint {
    /// Opens `DIR/model.safetensors`, or the shards of `DIR/model.safetensors.index.json`.
    ///
    /// # Errors
    /// [`Error::Files`]: a file that cannot be read or is damaged, or an index that leaves the directory or
    /// disagrees with its shards.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let entries = safetensors::open(dir)?;
        let single = dir.join("model.safetensors");
        let path = if single.exists() { single } else { dir.to_path_buf() };
        Ok(Self { path, entries: stored(entries), memory: None })
    }

    /// Opens a GGUF file. Its tensors go by Hugging Face's names, and are read as they were before they were converted and
    /// quantised, as far as quantisation allows.
    ///
    /// # Errors
    /// As [`DecoderConfig::from_gguf`](crate::DecoderConfig::from_gguf); [`Error::Files`] for a tensor that its family
    /// does not have.
    pub fn open_gguf(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: path.to_path_buf(), entries: gguf::tensors(path)?, memory: None })
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: path.to_path_buf(), entries: stored(safetensors::open_file(path)?), memory: None })
    }

    /// Reads a safetensors file that is already in memory; `name` stands for it in errors.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let entries = safetensors::in_memory(name, &bytes)?;
        Ok(Self { path: PathBuf::from(name), entries: stored(entries), memory: Some(bytes) })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The files that hold the tensors, sorted; none for bytes in memory.
    pub fn files(&self) -> Vec<&Path> {
        if self.memory.is_some() {
            return Vec::new();
        }
        let files: std::collections::BTreeSet<&Path> = self.entries.values().map(|entry| &*entry.file).collect();
        files.into_iter().collect()
    }

    /// The error for a tensor that the model should have used and did not.
    pub(crate) fn unused(&self, tensor: &str) -> Error {
        let hint = if tensor.ends_with(".bias") { "attention_bias, mlp_bias" } else { "model_type, num_hidden_layers" };
        Error::UnusedTensor { path: self.path.clone(), tensor: tensor.to_string(), hint: hint.into() }
    }

    /// Shape of a tensor, if it is there.
    pub fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.entries.get(tensor).map(|entry| entry.shape.as_slice())
    }

    /// dtype of the tensors in the safetensors spelling, e.g. `BF16`; the first one's. Of a GGUF file, the one that most
    /// weights have, in ggml's spelling, e.g. `Q4_K`.
    pub fn dtype(&self) -> Option<String> {
        match self.entries.values().next()?.format {
            Format::Safetensors(dtype) => Some(format!("{dtype:?}")),
            Format::Gguf(..) => {
                let mut weights: BTreeMap<Kind, usize> = BTreeMap::new();
                for (entry, kind) in self.entries.values().filter_map(|entry| Some((entry, entry.kind()?))) {
                    *weights.entry(kind).or_default() += entry.shape.iter().product::<usize>();
                }
                weights.into_iter().max_by_key(|(_, weights)| *weights).map(|(kind, _)| kind.name().to_owned())
            }
        }
    }

    /// How many tensors of a GGUF file are stored in which way, by ggml's names; empty for other files.
    pub fn quantisations(&self) -> BTreeMap<&'static str, usize> {
        let mut count = BTreeMap::new();
        for kind in self.entries.values().filter_map(Stored::kind) {
            *count.entry(kind.name()).or_default() += 1;
        }
        count
    }

    /// Whether all matrices are bf16, so that keeping them in it loses nothing.
    pub fn has_bf16_matrices(&self) -> bool {
        let is_bf16 =
            |entry: &Stored| matches!(entry.format, Format::Safetensors(Dtype::BF16) | Format::Gguf(Kind::Bf16, ..));
        self.entries.values().filter(|entry| entry.shape.len() > 1).all(is_bf16)
    }

    /// Number of scalars in all tensors.
    pub fn parameters(&self) -> usize {
        self.entries.values().map(|entry| entry.shape.iter().product::<usize>()).sum()
    }

    /// Whether a tensor is there.
    pub fn has(&self, tensor: &str) -> bool {
        self.entries.contains_key(tensor)
    }

    /// Reads a tensor as the device's float type.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`], [`Error::Dtype`], [`Error::NonFinite`], [`Error::Io`].
    pub fn read<const D: usize>(&self, tensor: &str, shape: [usize; D], device: &Device) -> Result<Tensor<D>, Error> {
        let values = self.finite(tensor, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }

    /// Reads a matrix that the file holds as `[columns, rows]` as `[rows, columns]`.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub(crate) fn read_transposed(
        &self,
        tensor: &str,
        [rows, columns]: [usize; 2],
        device: &Device,
    ) -> Result<Tensor<2>, Error> {
        let stored = self.finite(tensor, &[columns, rows])?;
        let values = (0..rows * columns).map(|index| stored[index % columns * rows + index / columns]).collect();
        Ok(Tensor::from_data(TensorData::new::<f32, _>(values, [rows, columns]), device))
    }

    /// The values of a tensor that has this shape and no NaN or infinity.
    fn finite(&self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let entry = self
            .entries
            .get(tensor)
            .ok_or_else(|| Error::MissingTensor { path: self.path.clone(), tensor: tensor.to_string() })?;
        if entry.shape != shape {
            return Err(Error::Shape {
                path: entry.file.to_path_buf(),
                tensor: tensor.to_string(),
                found: entry.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let values = self.values(tensor, entry)?;
        if let Some(element) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NonFinite { path: entry.file.to_path_buf(), tensor: tensor.to_string(), element });
        }
        Ok(values)
    }

    fn values(&self, tensor: &str, entry: &Stored) -> Result<Vec<f32>, Error> {
        let bytes = match &self.memory {
            Some(memory) => memory[entry.start as usize..entry.start as usize + entry.length].to_vec(),
            None => read_range(&entry.file, entry.start, entry.length)?,
        };
        let (kind, change) = match entry.format {
            Format::Safetensors(Dtype::F32) => (Kind::F32, Change::Nothing),
            Format::Safetensors(Dtype::F16) => (Kind::F16, Change::Nothing),
            Format::Safetensors(Dtype::BF16) => (Kind::Bf16, Change::Nothing),
            Format::Gguf(kind, change, Rounding::ToF16) => {
                return Ok(change.undo(rounded(kind.dequantise(&bytes)), &entry.shape));
            }
            Format::Gguf(kind, change, Rounding::None) => (kind, change),
            Format::Safetensors(_) => {
                let (path, tensor, dtype) = (entry.file.to_path_buf(), tensor.to_string(), entry.format.name());
                return Err(Error::Dtype { path, tensor, dtype });
            }
        };
        Ok(change.undo(kind.dequantise(&bytes), &entry.shape))
    }
}

impl Stored {
    /// Of a GGUF file.
    fn kind(&self) -> Option<Kind> {
        match self.format {
            Format::Gguf(kind, ..) => Some(kind),
            Format::Safetensors(_) => None,
        }
    }
}

pub(crate) fn read_range(path: &Path, start: u64, length: usize) -> Result<Vec<u8>, Error> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    file.seek(SeekFrom::Start(start)).map_err(Error::io(path))?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_weight_is_named() {
        let bytes: Vec<u8> = [1.0f32, f32::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = ::safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &bytes).unwrap();
        let file = ::safetensors::serialize([("w", view)], None).unwrap();
        let checkpoint = Checkpoint::from_bytes("memory", file).unwrap();
        let error = checkpoint.read("w", [2], &Device::flex()).unwrap_err();
        assert!(matches!(error, Error::NonFinite { element: 1, .. }), "{error}");
    }
}
