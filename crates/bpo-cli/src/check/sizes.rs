//! A model as far as a check looks at it: configuration, tokenizer, and how large its weights are.
use std::path::Path;

use bpo_data::Tokenizer;
use bpo_model::{Checkpoint, DecoderConfig, Dtype, EncoderConfig, SequenceClassifier};
use bpo_train::{Body, Sizes};
use burn::tensor::{Device, FloatDType};
use serde_json::{Value, json};

use crate::{failure::Failure, source::ModelSource};

/// A model whose weights were not read.
pub struct Looked {
    path: String,
    architecture: String,
    parameters: usize,
    stored: Option<String>,
    /// Bytes of each while they are frozen.
    pub weight_bytes: usize,
    /// Its layers.
    pub config: Config,
    /// Text ↔ ids.
    pub tokenizer: Tokenizer,
}

/// What a model is made of.
pub enum Config {
    /// A language model, or a reward model made from one.
    Decoder(Box<DecoderConfig>),
    /// An encoder.
    Encoder(Box<EncoderConfig>),
}

impl Looked {
    /// At a language model.
    pub fn at(source: &ModelSource, tokenizer: Option<&str>, dtype: Dtype, device: &Device) -> Result<Self, Failure> {
        let config = source.load_config()?;
        let tokenizer = source.load_matching_tokenizer(tokenizer.map(Path::new), &config)?;
        let checkpoint = source.checkpoint()?;
        if SequenceClassifier::is_in(&checkpoint) {
            return Err(Failure::input(format!("{source} is a reward model, not a language model")));
        }
        let weight_bytes = bytes(dtype, &checkpoint, device);
        Ok(Self::of(source.to_string(), Config::Decoder(Box::new(config)), Some(&checkpoint), weight_bytes, tokenizer))
    }

    /// At what is or becomes a reward model.
    pub fn at_reward_model(
        source: &ModelSource,
        dir: &Path,
        tokenizer: Option<&str>,
        dtype: Dtype,
        device: &Device,
    ) -> Result<Self, Failure> {
        let checkpoint = source.checkpoint()?;
        let tokenizer = tokenizer.map(Path::new);
        let (config, tokenizer, weight_bytes) = match EncoderConfig::from_dir(dir)? {
            Some(config) => {
                let tokenizer = source.load_tokenizer_at(tokenizer)?;
                (Config::Encoder(Box::new(config)), tokenizer, 4)
            }
            None => {
                let config = source.load_config()?;
                let tokenizer = source.load_matching_tokenizer(tokenizer, &config)?;
                (Config::Decoder(Box::new(config)), tokenizer, bytes(dtype, &checkpoint, device))
            }
        };
        Ok(Self::of(source.to_string(), config, Some(&checkpoint), weight_bytes, tokenizer))
    }

    /// At a model that is made anew.
    pub fn at_new(path: &str, config: DecoderConfig, tokenizer: Tokenizer) -> Self {
        Self::of(path.to_owned(), Config::Decoder(Box::new(config)), None, 4, tokenizer)
    }

    fn of(
        path: String,
        config: Config,
        checkpoint: Option<&Checkpoint>,
        weight_bytes: usize,
        tokenizer: Tokenizer,
    ) -> Self {
        let architecture = match &config {
            Config::Decoder(config) => format!("{:?}", config.architecture).to_lowercase(),
            Config::Encoder(config) => config.model_type.clone(),
        };
        let parameters = checkpoint.map_or_else(|| config.body().parameters(), Checkpoint::parameters);
        let stored = checkpoint.and_then(Checkpoint::dtype);
        Self { path, architecture, parameters, stored, weight_bytes, config, tokenizer }
    }

    /// Tokens that a row may have.
    pub fn context(&self) -> usize {
        match &self.config {
            Config::Decoder(config) => config.longest().unwrap_or(config.max_position_embeddings),
            Config::Encoder(config) => config.longest(),
        }
    }

    /// Whether it is an encoder.
    pub fn is_encoder(&self) -> bool {
        matches!(self.config, Config::Encoder(_))
    }

    /// What its weights are stored as.
    pub fn stored(&self) -> &str {
        self.stored.as_deref().unwrap_or("-")
    }

    /// For estimates.
    pub fn sizes(&self) -> Sizes<'_> {
        Sizes { body: self.config.body(), parameters: self.parameters, weight_bytes: self.weight_bytes }
    }

    /// For people and programs.
    pub fn facts(&self) -> Value {
        json!({
            "path": self.path,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "stored": self.stored,
            "kept": if self.weight_bytes == 4 { "float32" } else { "bfloat16" },
        })
    }
}

impl Config {
    fn body(&self) -> Body<'_> {
        match self {
            Self::Decoder(config) => Body::Decoder(config),
            Self::Encoder(config) => Body::Encoder(config),
        }
    }
}

fn bytes(dtype: Dtype, checkpoint: &Checkpoint, device: &Device) -> usize {
    if dtype.precision(checkpoint, device).weights == FloatDType::F32 { 4 } else { 2 }
}
