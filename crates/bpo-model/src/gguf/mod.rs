//! GGUF files as the Hugging Face directories that they were made of: `config.json`, names, layouts.
mod change;
mod config;
mod names;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bpo_files::gguf::{self, Gguf, Tensor};

pub(crate) use change::Change;

use crate::{
    Architecture, DecoderConfig, Error,
    weights::{Format, Rounding, Stored, read_range},
};

/// The values that rotary frequencies are divided by; part of the configuration elsewhere.
const ROPE_FACTORS: [&str; 3] = ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"];

/// The families by ggml's names.
const FAMILIES: [(&str, &str); 9] = [
    ("llama", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("gemma", "gemma"),
    ("gemma2", "gemma2"),
    ("gemma3", "gemma3_text"),
    ("phi3", "phi3"),
    ("gpt2", "gpt2"),
    ("gptneox", "gpt_neox"),
];

impl DecoderConfig {
    /// Reads the configuration of a GGUF file: what the `config.json` that it was made of said, as far as the file still
    /// knows.
    ///
    /// # Errors
    /// [`Error::Files`]; [`Error::Unsupported`] for an architecture or a feature that is not computed.
    pub fn from_gguf(path: &Path) -> Result<Self, Error> {
        Self::of_gguf(&gguf::open(path)?)
    }

    fn of_gguf(gguf: &Gguf) -> Result<Self, Error> {
        Self::from_json(&gguf.path, config::config(gguf)?.to_string().as_bytes())
    }
}

/// `model_type` of a file's architecture.
fn model_type(gguf: &Gguf) -> Result<&'static str, Error> {
    let name = gguf.architecture()?;
    let known = FAMILIES.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    known.ok_or_else(|| Error::Unsupported {
        path: gguf.path.clone(),
        key: "general.architecture".into(),
        value: name.chars().take(64).collect(),
        supported: format!("supported: {}", FAMILIES.map(|(theirs, _)| theirs).join(", ")),
    })
}

/// The tensors of a file under Hugging Face's names, and what has to be undone to each.
pub(crate) fn tensors(path: &Path) -> Result<BTreeMap<String, Stored>, Error> {
    let gguf = gguf::open(path)?;
    let config = DecoderConfig::of_gguf(&gguf)?;
    let file: Arc<Path> = gguf.path.as_path().into();
    let mut stored = BTreeMap::new();
    // What llama.cpp's programs wrote says what it is as a whole.
    let is_quantised = gguf.size("general.file_type")?.is_some();
    for (name, tensor) in gguf.tensors.iter().filter(|(name, _)| !ROPE_FACTORS.contains(&name.as_str())) {
        let Some((ours, change)) = names::of(&config, name, tensor.shape.len()) else {
            let family = family(config.architecture);
            return Err(gguf.error(format!("tensor {name} has no place in a model of the family {family}")).into());
        };
        let mut shape = tensor.shape.clone();
        if change == Change::Transposed {
            shape.reverse();
        }
        let rounding = if is_quantised && tensor.kind.is_quantised() { Rounding::ToF16 } else { Rounding::None };
        let format = Format::Gguf(tensor.kind, change, rounding);
        stored.insert(ours, Stored { file: file.clone(), shape, start: tensor.start, length: tensor.length, format });
    }
    Ok(stored)
}

fn family(architecture: Architecture) -> String {
    format!("{architecture:?}").to_lowercase()
}

/// The values of a tensor as they are in the file.
fn values(gguf: &Gguf, tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.kind.dequantise(&read_range(&gguf.path, tensor.start, tensor.length)?))
}
