//! Where a model comes from: a Hugging Face directory, or the program itself.
use std::{
    convert::Infallible,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use bpo_data::Tokenizer;
use bpo_model::{Adapter, Checkpoint, Decoder, DecoderConfig, WeightDtype, companion_files};
use burn::tensor::Device;

use crate::{
    embedded,
    failure::{Failure, io_failure},
};

/// A causal language model, not yet loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// The story model inside the program.
    Embedded,
    /// A Hugging Face directory.
    Dir(PathBuf),
}

impl FromStr for ModelSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == embedded::NAME { Self::Embedded } else { Self::Dir(text.into()) })
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => out.write_str(embedded::NAME),
            Self::Dir(dir) => write!(out, "{}", dir.display()),
        }
    }
}

impl ModelSource {
    /// The configuration alone.
    pub fn load_config(&self) -> Result<DecoderConfig, Failure> {
        match self {
            Self::Embedded => Ok(DecoderConfig::from_json(Path::new("(embedded)/config.json"), embedded::CONFIG)?),
            Self::Dir(dir) => {
                check_dir(dir)?;
                Ok(DecoderConfig::from_dir(dir)?)
            }
        }
    }

    /// The weights' names and shapes.
    pub fn checkpoint(&self) -> Result<Checkpoint, Failure> {
        match self {
            Self::Embedded => Ok(Checkpoint::from_bytes("(embedded)", embedded::WEIGHTS.to_vec())?),
            Self::Dir(dir) => Ok(Checkpoint::open(dir)?),
        }
    }

    /// The model. A reward model is refused by name: a tied one would load and mean nothing.
    pub fn load_decoder(&self, device: &Device) -> Result<Decoder, Failure> {
        let config = self.load_config()?;
        let checkpoint = self.checkpoint()?;
        if is_reward_model(&checkpoint) {
            return Err(Failure::input(format!(
                "{self} is a reward model (it has score.weight and no lm_head.weight), not a language model; \
                 `bpo score` takes it as --reward-model"
            )));
        }
        Ok(Decoder::from_checkpoint(config, &checkpoint, device)?)
    }

    /// The model with an adapter attached, if there is one.
    pub fn load_with_adapter(&self, adapter: Option<&Path>, device: &Device) -> Result<Decoder, Failure> {
        let decoder = self.load_decoder(device)?;
        match adapter {
            Some(dir) => Ok(decoder.with_adapter(&Adapter::from_dir(dir, device)?, 0.0)?),
            None => Ok(decoder),
        }
    }

    /// The model's own tokenizer.
    pub fn load_tokenizer(&self) -> Result<Tokenizer, Failure> {
        Ok(match self {
            Self::Embedded => Tokenizer::from_bytes(embedded::TOKENIZER, Some(embedded::TOKENIZER_CONFIG))?,
            Self::Dir(dir) => Tokenizer::from_dir(dir)?,
        })
    }

    /// The tokenizer at `path` (a folder or a `tokenizer.json`), or else the model's own; every id of
    /// it must be one of the model's.
    pub fn load_matching_tokenizer(&self, path: Option<&Path>, vocab: usize) -> Result<Tokenizer, Failure> {
        let (tokenizer, origin) = match path {
            Some(path) => (tokenizer_at(path)?, path.display().to_string()),
            None => (self.load_tokenizer()?, self.to_string()),
        };
        check_vocabulary(&tokenizer, &origin, vocab)?;
        Ok(tokenizer)
    }

    /// What an adapter's `base_model_name_or_path` shall say.
    pub fn base_name(&self) -> String {
        match self {
            Self::Embedded => embedded::NAME.to_owned(),
            Self::Dir(dir) => std::path::absolute(dir).unwrap_or_else(|_| dir.clone()).display().to_string(),
        }
    }

    /// Number format of the weights as stored.
    pub fn dtype(&self) -> Result<Option<WeightDtype>, Failure> {
        Ok(self.checkpoint()?.dtype().and_then(|name| WeightDtype::parse(&name)))
    }

    /// The files that go along with an exported model, `(name, bytes)`.
    pub fn companions(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Failure> {
        match self {
            Self::Embedded => Ok(vec![
                ("tokenizer.json", embedded::TOKENIZER.to_vec()),
                ("tokenizer_config.json", embedded::TOKENIZER_CONFIG.to_vec()),
            ]),
            Self::Dir(dir) => companion_files(dir).into_iter().map(|name| Ok((name, read(&dir.join(name))?))).collect(),
        }
    }
}

/// A tokenizer from a folder or a `tokenizer.json`.
pub fn tokenizer_at(path: &Path) -> Result<Tokenizer, Failure> {
    Ok(if path.is_dir() { Tokenizer::from_dir(path)? } else { Tokenizer::from_file(path)? })
}

/// Refuses a tokenizer whose ids the model does not have.
pub fn check_vocabulary(tokenizer: &Tokenizer, origin: &str, vocab: usize) -> Result<(), Failure> {
    let ids = tokenizer.vocab_size();
    if ids <= vocab {
        return Ok(());
    }
    Err(Failure::input(format!(
        "the tokenizer of {origin} has ids up to {}, the model's vocabulary has {vocab} entries: they do not belong together",
        ids - 1
    )))
}

/// Whether a checkpoint holds a sequence classifier.
pub fn is_reward_model(checkpoint: &Checkpoint) -> bool {
    checkpoint.has("score.weight") && !checkpoint.has("lm_head.weight")
}

/// Names the folder itself when it is not there.
pub fn check_dir(dir: &Path) -> Result<(), Failure> {
    match std::fs::metadata(dir) {
        Err(error) => Err(io_failure(dir, &error)),
        Ok(found) if !found.is_dir() => {
            Err(Failure::input(format!("{}: not a folder; a model is a Hugging Face directory", dir.display())))
        }
        Ok(_) => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| io_failure(path, &error))
}
