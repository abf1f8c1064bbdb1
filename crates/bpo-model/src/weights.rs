use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::Error;

/// Longest safetensors header that is read: the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a model directory or of bytes in memory: names, shapes and where to read them.
/// Opening reads headers only; each tensor is read when asked for, so a model is in memory once.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
    memory: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Entry {
    file: PathBuf,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    length: usize,
}

impl Checkpoint {
    /// Opens `DIR/model.safetensors`, or the shards of `DIR/model.safetensors.index.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Safetensors`]; [`Error::Shard`] for an index that leaves the directory or
    /// disagrees with its shards.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if !single.exists() && index.exists() {
            return Self::open_sharded(dir, &index);
        }
        if !single.exists() && dir.join("pytorch_model.bin").exists() {
            let reason = "it holds pickled weights (pytorch_model.bin), which are never read; convert to safetensors";
            return Err(Error::Safetensors { path: dir.to_path_buf(), reason: reason.into() });
        }
        Self::open_file(&single)
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Safetensors`].
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: path.to_path_buf(), entries: read_header(path)?, memory: None })
    }

    /// Reads a safetensors file that is already in memory; `name` stands for it in errors.
    ///
    /// # Errors
    /// [`Error::Safetensors`].
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let path = PathBuf::from(name);
        let damaged = |reason: String| Error::Safetensors { path: path.clone(), reason };
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let entries = entries(&path, header as u64 + 8, &metadata);
        if entries.values().any(|e| e.start + e.length as u64 > bytes.len() as u64) {
            return Err(damaged("it ends before its tensors do".into()));
        }
        Ok(Self { path, entries, memory: Some(bytes) })
    }

    fn open_sharded(dir: &Path, index: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(index).map_err(Error::io(index))?;
        let json = |reason: String| Error::Json { path: index.to_path_buf(), reason };
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| json(e.to_string()))?;
        let map = value.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| json("it has no object \"weight_map\"".into()))?;
        let shard_error =
            |shard: &str, reason: String| Error::Shard { path: index.to_path_buf(), shard: shard.to_string(), reason };
        let mut shards: BTreeMap<String, BTreeMap<String, Entry>> = BTreeMap::new();
        let mut entries = BTreeMap::new();
        for (tensor, shard) in map {
            let shard = shard.as_str().ok_or_else(|| json(format!("the shard of {tensor} is not a string")))?;
            if !shards.contains_key(shard) {
                let file = contained(dir, shard).map_err(|reason| shard_error(shard, reason))?;
                shards.insert(shard.to_string(), read_header(&file)?);
            }
            let entry = shards.get_mut(shard).and_then(|entries| entries.remove(tensor));
            let entry = entry.ok_or_else(|| shard_error(shard, format!("does not hold {tensor}")))?;
            entries.insert(tensor.clone(), entry);
        }
        let left = shards.iter().find_map(|(shard, rest)| rest.keys().next().map(|tensor| (shard, tensor)));
        if let Some((shard, tensor)) = left {
            return Err(shard_error(shard, format!("holds {tensor}, which the index does not list for it")));
        }
        Ok(Self { path: dir.to_path_buf(), entries, memory: None })
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
        let files: std::collections::BTreeSet<&Path> =
            self.entries.values().map(|entry| entry.file.as_path()).collect();
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
                path: entry.file.clone(),
                tensor: tensor.to_string(),
                found: entry.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let values = self.values(tensor, entry)?;
        if let Some(element) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NonFinite { path: entry.file.clone(), tensor: tensor.to_string(), element });
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
            other => {
                Err(Error::Dtype { path: entry.file.clone(), tensor: tensor.to_string(), dtype: format!("{other:?}") })
            }
        }
    }
}

fn read_header(path: &Path) -> Result<BTreeMap<String, Entry>, Error> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let damaged = |reason: String| Error::Safetensors { path: path.to_path_buf(), reason };
    let mut length = [0u8; 8];
    file.read_exact(&mut length).map_err(|_| damaged(format!("{size} bytes are too few")))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length + 8 > size {
        return Err(damaged(format!("it says its header has {length} bytes; the file has {size}")));
    }
    let mut bytes = (length).to_le_bytes().to_vec();
    bytes.resize(8 + length as usize, 0);
    file.read_exact(&mut bytes[8..]).map_err(Error::io(path))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes)
        .or_else(|error| match error {
            // The reader wants the data behind the header; all that is missing here.
            safetensors::SafeTensorError::MetadataIncompleteBuffer => parse_header(&bytes[8..]).map(|m| (0, m)),
            other => Err(other),
        })
        .map_err(|error| damaged(error.to_string()))?;
    let entries = entries(path, length + 8, &metadata);
    let end = entries.values().map(|e| e.start + e.length as u64).max().unwrap_or(length + 8);
    if end != size {
        return Err(damaged(format!("its tensors end at byte {end}, the file at {size}")));
    }
    Ok(entries)
}

fn parse_header(json: &[u8]) -> Result<safetensors::tensor::Metadata, safetensors::SafeTensorError> {
    serde_json::from_slice(json).map_err(safetensors::SafeTensorError::InvalidHeaderDeserialization)
}

fn entries(path: &Path, data: u64, metadata: &safetensors::tensor::Metadata) -> BTreeMap<String, Entry> {
    metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let (start, end) = info.data_offsets;
            let entry = Entry {
                file: path.to_path_buf(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: data + start as u64,
                length: end - start,
            };
            (name, entry)
        })
        .collect()
}

fn read_range(path: &Path, start: u64, length: usize) -> Result<Vec<u8>, Error> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    file.seek(SeekFrom::Start(start)).map_err(Error::io(path))?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

/// A shard's path, if it stays inside `dir` (also behind symbolic links that leave the directory the
/// shard must not be; links within one hub cache are what hf-hub makes and are followed).
fn contained(dir: &Path, shard: &str) -> Result<PathBuf, String> {
    let mut parts = Path::new(shard).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) if !shard.contains(['/', '\\']) => Ok(dir.join(shard)),
        _ => Err("is not a plain file name inside the model directory".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(map: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors.index.json");
        std::fs::write(&path, format!("{{\"weight_map\":{map}}}")).unwrap();
        (dir, path)
    }

    #[test]
    fn an_index_cannot_leave_its_directory() {
        for shard in ["../secret.safetensors", "/etc/passwd", "a/../../b", "sub/x.safetensors", "", "."] {
            let (dir, _) = index(&format!("{{\"w\":{shard:?}}}"));
            let error = Checkpoint::open(dir.path()).unwrap_err();
            assert!(matches!(error, Error::Shard { .. }), "{shard}: {error}");
        }
    }

    #[test]
    fn a_header_longer_than_the_file_is_refused_before_it_is_allocated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        for length in [99_999_999u64, u64::MAX, 3] {
            std::fs::write(&path, length.to_le_bytes()).unwrap();
            let error = Checkpoint::open(dir.path()).unwrap_err();
            assert!(matches!(error, Error::Safetensors { .. }), "{error}");
        }
    }

    #[test]
    fn a_nan_weight_is_named() {
        let bytes: Vec<u8> = [1.0f32, f32::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &bytes).unwrap();
        let file = safetensors::serialize([("w", view)], None).unwrap();
        let checkpoint = Checkpoint::from_bytes("memory", file).unwrap();
        let error = checkpoint.read("w", [2], &Device::flex()).unwrap_err();
        assert!(matches!(error, Error::NonFinite { element: 1, .. }), "{error}");
    }
}
