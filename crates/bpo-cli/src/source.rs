//! Where a model comes from: a Hugging Face directory, a GGUF file, the hub, or the program itself.
use std::{
    borrow::Cow,
    convert::Infallible,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use bpo_data::{Tokenizer, gguf_tokenizer_files};
use bpo_files::gguf;
use bpo_model::{Adapter, Checkpoint, Decoder, DecoderConfig, Dtype, SequenceClassifier, WeightDtype, companion_files};
use burn::tensor::Device;
use serde_json::Value;

use crate::{
    embedded,
    failure::{Failure, io_failure, warn},
    hub::{self, HubModel},
};

/// A causal language model, not yet loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// The story model inside the program.
    Embedded,
    /// A Hugging Face directory.
    Dir(PathBuf),
    /// A GGUF file, which holds its configuration and its tokenizer too.
    Gguf(PathBuf),
    /// A model of the Hugging Face hub, fetched when it is first needed.
    Hub(HubModel),
}

impl FromStr for ModelSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (Path::new(text), hub::named(text)) {
            _ if text == embedded::NAME => Self::Embedded,
            (_, Some(model)) => Self::Hub(model),
            (path, None) => Self::at(path),
        })
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => out.write_str(embedded::NAME),
            Self::Dir(path) | Self::Gguf(path) => write!(out, "{}", path.display()),
            Self::Hub(model) => write!(out, "{}", model.id),
        }
    }
}

/// Whether a path is a GGUF file, by its name where there is nothing yet.
fn is_gguf(path: &Path) -> bool {
    let by_name = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    by_name && !path.is_dir() || gguf::is_one(path)
}

impl ModelSource {
    /// A directory or a GGUF file.
    pub fn at(path: &Path) -> Self {
        if is_gguf(path) { Self::Gguf(path.into()) } else { Self::Dir(path.into()) }
    }

    /// Itself, or what a model of the hub is once it is here.
    pub fn local(&self) -> Result<Cow<'_, Self>, Failure> {
        match self {
            Self::Hub(model) => Ok(Cow::Owned(Self::at(&model.fetched()?.path))),
            here => Ok(Cow::Borrowed(here)),
        }
    }

    /// The configuration alone.
    pub fn load_config(&self) -> Result<DecoderConfig, Failure> {
        match self {
            Self::Hub(_) => self.local()?.load_config(),
            Self::Embedded => Ok(DecoderConfig::from_json(Path::new("(embedded)/config.json"), embedded::CONFIG)?),
            Self::Dir(dir) => {
                check_dir(dir)?;
                Ok(DecoderConfig::from_dir(dir)?)
            }
            Self::Gguf(path) => Ok(DecoderConfig::from_gguf(path)?),
        }
    }

    /// The weights' names and shapes.
    pub fn checkpoint(&self) -> Result<Checkpoint, Failure> {
        match self {
            Self::Hub(_) => self.local()?.checkpoint(),
            Self::Embedded => Ok(Checkpoint::from_bytes("(embedded)", embedded::WEIGHTS.to_vec())?),
            Self::Dir(dir) => Ok(Checkpoint::open(dir)?),
            Self::Gguf(path) => Ok(Checkpoint::open_gguf(path)?),
        }
    }

    /// The model, in the precision that `dtype` means here. A reward model is refused by name: a tied one would load and
    /// mean nothing.
    pub fn load_decoder(&self, device: &Device, dtype: Dtype) -> Result<Decoder, Failure> {
        let config = self.load_config()?;
        let checkpoint = self.checkpoint()?;
        if SequenceClassifier::is_in(&checkpoint) {
            return Err(Failure::input(format!(
                "{self} is a reward model (it has a head that scores and none that predicts), not a language model; \
                 `bpo score` takes it as --reward-model"
            )));
        }
        let precision = dtype.precision(&checkpoint, device);
        if !device.supports_dtype(precision.activations) {
            return Err(Failure::usage(
                "dtype = \"bfloat16\": this device does not compute in it (`bpo devices` says what each computes in)",
            ));
        }
        Ok(Decoder::in_precision(config, &checkpoint, device, precision)?)
    }

    /// The model with an adapter attached, if there is one.
    pub fn load_with_adapter(&self, adapter: Option<&Path>, device: &Device, dtype: Dtype) -> Result<Decoder, Failure> {
        let decoder = self.load_decoder(device, dtype)?;
        match adapter {
            Some(dir) => Ok(decoder.with_adapter(&Adapter::from_dir(dir, device)?, 0.0)?),
            None => Ok(decoder),
        }
    }

    /// The model's own tokenizer.
    pub fn load_tokenizer(&self) -> Result<Tokenizer, Failure> {
        Ok(match self {
            Self::Hub(_) => self.local()?.load_tokenizer()?,
            Self::Embedded => Tokenizer::from_bytes(embedded::TOKENIZER, Some(embedded::TOKENIZER_CONFIG))?,
            Self::Dir(dir) => Tokenizer::from_dir(dir)?,
            Self::Gguf(path) => Tokenizer::from_gguf(path)?,
        })
    }

    /// The tokenizer at `path` (a folder or a `tokenizer.json`), or else the model's own, unchecked.
    pub fn load_tokenizer_at(&self, path: Option<&Path>) -> Result<Tokenizer, Failure> {
        path.map_or_else(|| self.load_tokenizer(), tokenizer_at)
    }

    /// The tokenizer at `path` (a folder or a `tokenizer.json`), or else the model's own; it must fit the
    /// model.
    pub fn load_matching_tokenizer(&self, path: Option<&Path>, config: &DecoderConfig) -> Result<Tokenizer, Failure> {
        self.load_fitting_tokenizer(path, config.vocab_size, &config.raw)
    }

    /// As [`ModelSource::load_matching_tokenizer`], for a vocabulary of `vocab` entries and a `config.json`.
    pub fn load_fitting_tokenizer(&self, path: Option<&Path>, vocab: usize, raw: &Value) -> Result<Tokenizer, Failure> {
        let (tokenizer, origin) = match path {
            Some(path) => (tokenizer_at(path)?, path.display().to_string()),
            None => (self.load_tokenizer()?, self.to_string()),
        };
        check_vocabulary(&tokenizer, &origin, vocab)?;
        check_specials(&tokenizer, &origin, raw, &self.stop_ids(raw)?, path.is_some())?;
        Ok(tokenizer)
    }

    /// Ids that end a text, by `config.json` and `generation_config.json`.
    fn stop_ids(&self, raw: &Value) -> Result<Vec<u32>, Failure> {
        let mut ids = token_ids(raw.get("eos_token_id"));
        if let Self::Dir(dir) = &*self.local()? {
            let path = dir.join("generation_config.json");
            if path.is_file() {
                let generation: Value = serde_json::from_slice(&read(&path)?)
                    .map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
                ids.extend(token_ids(generation.get("eos_token_id")));
            }
        }
        Ok(ids)
    }

    /// What an adapter's `base_model_name_or_path` shall say.
    pub fn base_name(&self) -> String {
        match self {
            Self::Embedded => embedded::NAME.to_owned(),
            Self::Dir(path) | Self::Gguf(path) => {
                std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
            }
            // PEFT has a key of its own for the revision.
            Self::Hub(model) => bpo_hub::Id { revision: None, ..model.id.clone() }.to_string(),
        }
    }

    /// Number format of the weights as stored; `None` for quantised ones.
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
            Self::Gguf(path) => Ok(gguf_tokenizer_files(path)?.to_vec()),
            Self::Hub(_) => self.local()?.companions(),
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
    if ids > vocab {
        return Err(Failure::input(format!(
            "the tokenizer of {origin} has ids up to {}, the model's vocabulary has {vocab} entries: they do not belong together",
            ids - 1
        )));
    }
    if vocab > 2 * ids {
        warn(&format!(
            "the tokenizer of {origin} has {ids} ids, the model's vocabulary {vocab} entries: do they belong together?"
        ));
    }
    Ok(())
}

/// Compares the special ids of a tokenizer with the model's: another BOS is another vocabulary, unless the
/// two came together (some published models disagree with themselves); a chat model may end its turns with
/// another token than texts.
fn check_specials(
    tokenizer: &Tokenizer,
    origin: &str,
    raw: &Value,
    stops: &[u32],
    is_foreign: bool,
) -> Result<(), Failure> {
    if let (Some(theirs), Some(ours)) = (tokenizer.bos_id(), token_ids(raw.get("bos_token_id")).first()) {
        let told = format!("the tokenizer of {origin} begins texts with id {theirs}, the model with id {ours}");
        match (theirs == *ours, is_foreign) {
            (true, _) => {}
            (false, true) => return Err(Failure::input(format!("{told}: they do not belong together"))),
            (false, false) => warn(&told),
        }
    }
    match tokenizer.eos_ids().first() {
        Some(eos) if !stops.is_empty() && !stops.contains(eos) => {
            warn(&format!("the tokenizer of {origin} ends texts with id {eos}, the model with {stops:?}"));
        }
        _ => {}
    }
    Ok(())
}

/// An id, or a list of them; anything else is none.
fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The tokenizer's and generation's files for an exported model, `(name, bytes)`: those of `tokenizer`, a
/// folder or a `tokenizer.json`, where there is one, else the model's own.
pub fn companions(source: &ModelSource, tokenizer: Option<&Path>) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let named = |files: Vec<(&'static str, Vec<u8>)>| -> Vec<(String, Vec<u8>)> {
        files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
    };
    let Some(path) = tokenizer else { return Ok(named(source.companions()?)) };
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    let mut files = named(ModelSource::Dir(folder.to_path_buf()).companions()?);
    if !path.is_dir() {
        files.retain(|(name, _)| name != "tokenizer.json");
        files.push(("tokenizer.json".to_owned(), read(path)?));
    }
    // The tokenizer was given because the model's own is none that is known, perhaps.
    if let Some(own) = named(source.companions().unwrap_or_default()).into_iter().find(|(name, _)| name == GENERATION) {
        files.retain(|(name, _)| name != GENERATION);
        files.push(own);
    }
    Ok(files)
}

/// How the model generates, which is no matter of its tokenizer.
const GENERATION: &str = "generation_config.json";

/// Names the folder itself when it is not there.
pub fn check_dir(dir: &Path) -> Result<(), Failure> {
    match std::fs::metadata(dir) {
        Err(error) => Err(io_failure(dir, &error)),
        Ok(found) if !found.is_dir() => Err(Failure::input(format!(
            "{}: not a folder; a model is a Hugging Face directory, a GGUF file or a name on the hub",
            dir.display()
        ))),
        Ok(_) => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| io_failure(path, &error))
}
