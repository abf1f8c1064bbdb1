use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use bpo_files::safetensors::{self, Dtype, Entries, Entry};
use burn::tensor::{Device, Tensor, TensorData};

use crate::Error;

/// The tensors of a model directory or of bytes in memory: names, shapes and where to read them.
/// Opening reads headers only; each tensor is read when asked for, so a model is in memory once.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    entries: Entries,
    memory: Option<Vec<u8>>,
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
        Ok(Self { path: if single.exists() { single } else { dir.to_path_buf() }, entries, memory: None })
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: path.to_path_buf(), entries: safetensors::open_file(path)?, memory: None })
    }

    /// Reads a safetensors file that is already in memory; `name` stands for it in errors.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let entries = safetensors::in_memory(name, &bytes)?;
        Ok(Self { path: PathBuf::from(name), entries, memory: Some(bytes) })
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

    /// dtype of the tensors in the safetensors spelling, e.g. `BF16`; the first one's.
    pub fn dtype(&self) -> Option<String> {
        self.entries.values().next().map(|entry| format!("{:?}", entry.dtype))
    }

    /// Whether all matrices are bf16, so that keeping them in it loses nothing.
    pub fn has_bf16_matrices(&self) -> bool {
        self.entries.values().filter(|entry| entry.shape.len() > 1).all(|entry| entry.dtype == Dtype::BF16)
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

    fn values(&self, tensor: &str, entry: &Entry) -> Result<Vec<f32>, Error> {
        let bytes = match &self.memory {
            Some(memory) => memory[entry.start as usize..entry.start as usize + entry.length].to_vec(),
            None => read_range(&entry.file, entry.start, entry.length)?,
        };
        let pairs = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
        match entry.dtype {
            Dtype::F32 => Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
            Dtype::F16 => Ok(pairs().map(|b| half::f16::from_le_bytes(b).to_f32()).collect()),
            Dtype::BF16 => Ok(pairs().map(|b| half::bf16::from_le_bytes(b).to_f32()).collect()),
            other => Err(Error::Dtype {
                path: entry.file.to_path_buf(),
                tensor: tensor.to_string(),
                dtype: format!("{other:?}"),
            }),
        }
    }
}

fn read_range(path: &Path, start: u64, length: usize) -> Result<Vec<u8>, Error> {
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
