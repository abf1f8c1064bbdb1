//! Hugging Face model directories.
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::{
    Decoder, Error, Parameters,
    names::is_transposed,
    params::{safetensors_file, to_le_bytes, torch_format},
};

/// Number format of written weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightDtype {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl WeightDtype {
    /// By transformers' name: `float32`, `float16`, `bfloat16` (or `f32`, `f16`, `bf16`).
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "float32" | "f32" => Some(Self::F32),
            "float16" | "f16" => Some(Self::F16),
            "bfloat16" | "bf16" => Some(Self::Bf16),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    fn encode(self, f32_bytes: Vec<u8>) -> Vec<u8> {
        let values = || f32_bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        match self {
            Self::F32 => f32_bytes,
            Self::F16 => values().flat_map(|v| f16::from_f32(v).to_le_bytes()).collect(),
            Self::Bf16 => values().flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect(),
        }
    }

    /// The first weight that is finite and would not be so in this format.
    fn overflow(self, f32_bytes: &[u8]) -> Option<f32> {
        let is_finite = |value: f32| match self {
            Self::F32 => true,
            Self::F16 => f16::from_f32(value).is_finite(),
            Self::Bf16 => bf16::from_f32(value).is_finite(),
        };
        let values = f32_bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        values.filter(|value| value.is_finite()).find(|&value| !is_finite(value))
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }
}

/// `model` as the files of a Hugging Face directory, `(name, bytes)`: `config.json` (as it was read, with
/// the weights' dtype) and `model.safetensors` with transformers' names. An attached adapter is folded in.
/// The caller writes them, and the tokenizer's files beside them.
///
/// # Errors
/// [`Error::Input`] when a tensor cannot be read back from its device, [`Error::Overflow`] when a weight
/// does not fit `dtype`.
pub fn write_model(model: &Decoder, dtype: WeightDtype) -> Result<[(&'static str, Vec<u8>); 2], Error> {
    let merged = model.merged();
    let names = model.config().architecture.names();
    let tables = [names.embedding, names.positions];
    let is_matrix = |path: &str| tables.contains(&path) || merged.linear_shape(path).is_some();
    let tensors = tensors_file(&merged.parameters(), is_matrix, dtype)?;
    Ok([("config.json", config(&merged, dtype)?), ("model.safetensors", tensors)])
}

/// A safetensors file of parameters, of which `is_matrix` says by its module's path whether a `weight` is a matrix.
pub(crate) fn tensors_file(
    parameters: &Parameters,
    is_matrix: impl Fn(&str) -> bool,
    dtype: WeightDtype,
) -> Result<Vec<u8>, Error> {
    let mut tensors = Vec::with_capacity(parameters.len());
    for (name, tensor) in parameters.iter() {
        let path = name.strip_suffix(".weight");
        let is_matrix = path.is_some_and(&is_matrix);
        let stored =
            if path.is_some_and(is_transposed) && is_matrix { tensor.clone().transpose() } else { tensor.clone() };
        let dims = stored.dims();
        let shape = if is_matrix { dims.to_vec() } else { vec![dims[1]] };
        let bytes = to_le_bytes(&stored)?;
        if let Some(value) = dtype.overflow(&bytes) {
            return Err(Error::Overflow { tensor: name.to_string(), value, dtype: dtype.name() });
        }
        tensors.push((name.to_string(), shape, dtype.encode(bytes)));
    }
    safetensors_file(dtype.dtype(), &tensors, Some(torch_format()))
}

fn config(model: &Decoder, dtype: WeightDtype) -> Result<Vec<u8>, Error> {
    let mut raw = model.config().raw.clone();
    let tied = model.head.is_none();
    if let Some(object) = raw.as_object_mut() {
        let key = if object.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        object.insert(key.into(), json!(dtype.name()));
        if !tied && model.config().tie_word_embeddings {
            object.insert("tie_word_embeddings".into(), Value::Bool(false));
        }
    }
    serde_json::to_vec_pretty(&raw).map_err(|error| Error::Input(error.to_string()))
}

/// The files of a model directory that are neither weights nor configuration: copied along on export.
pub(crate) const COMPANIONS: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
];

/// Names of the tokenizer and generation files that `dir` has.
pub fn companion_files(dir: &Path) -> Vec<&'static str> {
    COMPANIONS.into_iter().filter(|name| dir.join(name).is_file()).collect()
}
