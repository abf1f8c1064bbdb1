//! A run's folder, and what has to be the same when the run is continued: its recipe and its inputs.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::Path,
};

use bpo_annotate::{AnnotatorConfig, ServiceConfig};
use bpo_service::SamplerConfig;
use bpo_store::RunDir;
use serde::Serialize;

use crate::{
    embedded,
    failure::{Failure, Kind, io_failure},
    hub,
    source::ModelSource,
};

const JOURNAL: &str = "journal.bin";
const RECIPE: &str = "recipe.toml";
const INPUTS: &str = "inputs.json";
/// Digits of a hash that people are shown.
const SHOWN: usize = 12;
/// Files beside a `tokenizer.json` that decide what it does.
const TOKENIZER: [&str; 5] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "config.json",
];

/// A run's folder, locked. Nothing is written about a run before its inputs are known to be good, and
/// nothing binds a folder in which nothing has happened yet.
pub struct Start {
    /// The folder.
    pub dir: RunDir,
    recipe: String,
    /// Whether the journal or the checkpoints hold anything.
    has_begun: bool,
}

impl Start {
    /// Takes the folder; a run that began with other settings is refused, key by key.
    pub fn open<R: Serialize>(folder: &Path, recipe: &R) -> Result<Self, Failure> {
        let recipe = toml::to_string(recipe).map_err(|error| Failure::new(Kind::Internal, error))?;
        let dir = RunDir::open(folder)?;
        // A journal is made by being opened: not every kind of run has one.
        let has_records = folder.join(JOURNAL).exists() && !dir.journal()?.is_empty();
        let has_begun = dir.is_finished() || has_records || has_checkpoints(folder);
        if has_begun {
            let bytes = dir.read(RECIPE)?.ok_or_else(|| missing(&folder.join(RECIPE)))?;
            let differences = differences(&table(&folder.join(RECIPE), &bytes)?, &recipe);
            if !differences.is_empty() {
                return Err(bpo_train::Error::RecipeChanged { path: folder.to_path_buf(), differences }.into());
            }
        }
        Ok(Self { dir, recipe, has_begun })
    }

    /// Refuses other inputs than those that the run began with, one line for each.
    pub fn compare(&self, inputs: &Identity) -> Result<(), Failure> {
        if self.has_begun {
            let path = self.dir.path().join(INPUTS);
            let bytes = self.dir.read(INPUTS)?.ok_or_else(|| missing(&path))?;
            let old: BTreeMap<String, String> = serde_json::from_slice(&bytes).map_err(|e| damaged(&path, &e))?;
            let changed = inputs.changes_since(&old);
            if !changed.is_empty() {
                let folder = self.dir.path().display();
                return Err(Failure::usage(format!(
                    "{folder}: {}\nuse another --run-dir, or the same inputs",
                    changed.join("\n")
                )));
            }
        }
        Ok(())
    }

    /// Writes recipe and inputs down, once both are known to be good; a run that began with other inputs
    /// is refused.
    pub fn settle(&self, inputs: &Identity) -> Result<(), Failure> {
        self.compare(inputs)?;
        let text = serde_json::to_string_pretty(&inputs.0).map_err(|error| Failure::new(Kind::Internal, error))?;
        self.dir.write(INPUTS, format!("{text}\n").as_bytes())?;
        self.dir.write(RECIPE, self.recipe.as_bytes())?;
        Ok(())
    }
}

fn has_checkpoints(folder: &Path) -> bool {
    std::fs::read_dir(folder.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some())
}

fn table(path: &Path, bytes: &[u8]) -> Result<toml::Table, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|error| damaged(path, &error))?;
    text.parse().map_err(|error: toml::de::Error| damaged(path, &error.message()))
}

/// Both are written before anything else of a run.
fn missing(path: &Path) -> Failure {
    Failure::message(
        Kind::Run,
        format!("{} is missing, and with it what this run was started with; use another --run-dir", path.display()),
    )
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::message(Kind::Run, format!("{}: damaged: {why}", path.display()))
}

/// One line per key that two recipes disagree on.
fn differences(old: &toml::Table, new: &str) -> Vec<String> {
    let mut new: toml::Table = new.parse().unwrap_or_default();
    let mut old = old.clone();
    [&mut old, &mut new].into_iter().filter_map(|table| table.get_mut("annotator")).for_each(drop_service_keys);
    for table in [&mut old, &mut new] {
        if let Some(sampler) = table.get_mut("sampler").and_then(toml::Value::as_table_mut) {
            sampler.retain(|key, _| !SamplerConfig::KEYS.contains(&key));
        }
    }
    let show = |value: Option<&toml::Value>| value.map_or_else(|| "(not set)".to_string(), ToString::to_string);
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| format!("  {key}: {} there, {} now", show(old.get(key)), show(new.get(key))))
        .collect()
}

/// How a service is asked may change between two starts of a run: a longer deadline, a larger budget.
fn drop_service_keys(annotator: &mut toml::Value) {
    let Some(table) = annotator.as_table_mut() else { return };
    if matches!(table.get("kind").and_then(toml::Value::as_str), Some("chat" | "reward_endpoint")) {
        table.retain(|key, _| !ServiceConfig::KEYS.contains(&key));
    }
    table.get_mut("members").and_then(toml::Value::as_array_mut).into_iter().flatten().for_each(drop_service_keys);
}

/// What went into a run: the BLAKE3 hash of every file, by what it is, and the device.
#[derive(Debug, Default)]
pub struct Identity(BTreeMap<String, String>);

impl Identity {
    /// Of a run on a device.
    pub fn on(device: &str) -> Self {
        let device = device.strip_suffix(":0").unwrap_or(device);
        Self([("device".to_owned(), device.to_owned())].into())
    }

    /// A data file, or what is built in under its name.
    pub fn data(&mut self, what: &str, path: &str, built_in: &[u8]) -> Result<(), Failure> {
        match path {
            embedded::NAME => self.bytes(what, built_in),
            path => self.file(what, Path::new(path))?,
        }
        Ok(())
    }

    /// A model's configuration and weights.
    pub fn model(&mut self, source: &ModelSource) -> Result<(), Failure> {
        match source {
            ModelSource::Embedded => {
                self.bytes("model config.json", embedded::CONFIG);
                self.bytes("model model.safetensors", embedded::WEIGHTS);
                Ok(())
            }
            ModelSource::Gguf(path) => self.file("model", path),
            ModelSource::Hub(model) => {
                self.0.insert("model commit".to_owned(), model.fetched()?.commit.clone());
                self.model(source.local()?.as_ref())
            }
            ModelSource::Dir(dir) => {
                self.file("model config.json", &dir.join("config.json"))?;
                let checkpoint = source.checkpoint()?;
                checkpoint.files().iter().try_for_each(|path| self.file(&format!("model {}", name(path)), path))
            }
        }
    }

    /// A tokenizer (a folder or a `tokenizer.json`, else the model's own) with the files that belong to it.
    pub fn tokenizer(&mut self, source: &ModelSource, path: Option<&Path>) -> Result<(), Failure> {
        let file = match (path, &*source.local()?) {
            (Some(path), _) if path.is_dir() => path.join("tokenizer.json"),
            (Some(path), _) => path.to_owned(),
            (None, ModelSource::Dir(dir)) => dir.join("tokenizer.json"),
            (None, ModelSource::Gguf(path)) => return self.file("tokenizer", path),
            (None, ModelSource::Embedded | ModelSource::Hub(_)) => {
                self.bytes("tokenizer.json", embedded::TOKENIZER);
                self.bytes("tokenizer_config.json", embedded::TOKENIZER_CONFIG);
                return Ok(());
            }
        };
        self.file("tokenizer.json", &file)?;
        let dir = file.parent().unwrap_or(Path::new("."));
        for name in TOKENIZER.into_iter().filter(|name| dir.join(name).is_file()) {
            self.file(&format!("tokenizer {name}"), &dir.join(name))?;
        }
        Ok(())
    }

    /// The two files of an adapter, the `index`th the run starts from.
    pub fn adapter(&mut self, index: usize, dir: &Path) -> Result<(), Failure> {
        let what = if index == 0 { "adapter".to_owned() } else { format!("adapter {index}") };
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            self.file(&format!("{what} {name}"), &dir.join(name))?;
        }
        Ok(())
    }

    /// The files that an annotator reads, as far as they can be known.
    pub fn annotator(&mut self, config: &AnnotatorConfig) -> Result<(), Failure> {
        if config.needs_embedded_lexicon() {
            self.bytes("annotator lexicon", embedded::LEXICON);
        }
        for model in config.reward_models().iter().filter_map(|path| hub::named(path.to_str()?)) {
            self.0.insert(format!("annotator {} commit", model.id), model.fetched()?.commit.clone());
        }
        config.files().iter().try_for_each(|(what, path)| self.file(&format!("annotator {what}"), path))
    }

    /// One file, read in pieces.
    pub fn file(&mut self, what: &str, path: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| io_failure(path, &error);
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path).map_err(failed)?).map_err(failed)?;
        self.0.insert(what.to_owned(), hasher.finalize().to_hex().to_string());
        Ok(())
    }

    fn bytes(&mut self, what: &str, bytes: &[u8]) {
        self.0.insert(what.to_owned(), blake3::hash(bytes).to_hex().to_string());
    }

    /// Whether all of it is what `recorded` says.
    pub fn is_part_of(&self, recorded: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(what, hash)| recorded.get(what) == Some(hash))
    }

    /// One line per input that is another one now.
    fn changes_since(&self, old: &BTreeMap<String, String>) -> Vec<String> {
        let show = |value: Option<&String>| match value {
            Some(value) => value.chars().take(SHOWN).collect(),
            None => "(none)".to_owned(),
        };
        let keys: BTreeSet<&String> = old.keys().chain(self.0.keys()).collect();
        keys.into_iter()
            .filter(|key| old.get(*key) != self.0.get(*key))
            .map(|key| {
                let (then, now) = (show(old.get(key)), show(self.0.get(key)));
                format!("{key} changed since this run was started: {then} then, {now} now")
            })
            .collect()
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
