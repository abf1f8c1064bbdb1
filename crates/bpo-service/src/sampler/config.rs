//! The `sampler` of a recipe.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::Sampler;
use crate::{Client, Error, MOST_TRIES, Patience, ServiceUrl, Waits, check_variable, key, only_model};

/// The longest reply that is read, in bytes: some thousand tokens with their log-probs have a few hundred kilobytes.
const LONGEST_REPLY: u64 = 64 << 20;

/// Which server it is: what its requests and replies look like, and how it loads an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// What every OpenAI-compatible server takes, and no more.
    #[default]
    Openai,
    /// vLLM.
    Vllm,
    /// SGLang, by its own `/generate`.
    Sglang,
    /// The servers of llama.cpp, in C++ and in Python.
    LlamaCpp,
    /// `transformers serve`.
    Transformers,
}

impl Format {
    /// As recipes name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::LlamaCpp => "llama_cpp",
            Self::Transformers => "transformers",
        }
    }

    /// Whether it can be told to load a PEFT folder while it runs.
    pub fn loads_adapters(self) -> bool {
        matches!(self, Self::Vllm | Self::Sglang | Self::Transformers)
    }
}

/// How a prompt is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptForm {
    /// As token ids.
    Ids,
    /// As text, which the server makes ids of.
    Text,
}

/// A server that samples: the `sampler` of a recipe, an address or a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct SamplerConfig {
    /// The address up to and with `/v1`.
    pub url: ServiceUrl,
    /// Which server it is.
    #[serde(default)]
    pub format: Format,
    /// The model's name there; without one, the only one that the server lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The environment variable that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// How prompts are sent: by default `ids` to vLLM and SGLang, `text` to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptForm>,
    /// Ask for log-probs.
    #[serde(default = "yes")]
    pub logprobs: bool,
    /// Train on the server's log-probs instead of scoring its completions.
    #[serde(default)]
    pub trust_logps: bool,
    /// The largest mean difference per token, in nats, between the server's log-probs and ours that `trust_logps`
    /// stands.
    #[serde(default = "a_little")]
    pub max_logp_gap: f64,
    /// The folder that the behaviour's adapters are written to for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_dir: Option<PathBuf>,
    /// The same folder as the server sees it, where it sees another path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_dir: Option<PathBuf>,
    /// More keys of the request, put over its own.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra_body: Map<String, Value>,
    /// Seconds for one try.
    #[serde(default = "five_minutes")]
    pub timeout_s: f64,
    /// Seconds for one completion, all tries and waits.
    #[serde(default = "ten_minutes")]
    pub question_timeout_s: f64,
    /// Seconds for all completions of a step.
    #[serde(default = "an_hour")]
    pub batch_timeout_s: f64,
    /// Tries of one completion, 1 to 4.
    #[serde(default = "most_tries")]
    pub tries: u32,
    /// Seconds before the second try; doubled each time, jittered; a `Retry-After` counts instead.
    #[serde(default = "half_a_second")]
    pub backoff_s: f64,
    /// Requests under way at once.
    #[serde(default = "sixteen")]
    pub concurrency: usize,
}

fn yes() -> bool {
    true
}
fn a_little() -> f64 {
    0.05
}
fn five_minutes() -> f64 {
    300.0
}
fn ten_minutes() -> f64 {
    600.0
}
fn an_hour() -> f64 {
    3600.0
}
fn most_tries() -> u32 {
    MOST_TRIES
}
fn half_a_second() -> f64 {
    0.5
}
fn sixteen() -> usize {
    16
}

impl Serialize for SamplerConfig {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for SamplerConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AddressOrTable)
    }
}

/// Not an untagged enum: its errors would not name the key.
struct AddressOrTable;

impl<'de> Visitor<'de> for AddressOrTable {
    type Value = SamplerConfig;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a sampler: the address of an OpenAI-compatible server, or a table with `url`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        ServiceUrl::new(text).map(SamplerConfig::at).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        SamplerConfig::deserialize(MapAccessDeserializer::new(map))
    }
}

impl SamplerConfig {
    /// Keys that decide no completion: a run may be continued with other ones.
    pub const KEYS: [&'static str; 9] = [
        "url",
        "publish_dir",
        "server_dir",
        "timeout_s",
        "question_timeout_s",
        "batch_timeout_s",
        "tries",
        "backoff_s",
        "concurrency",
    ];

    /// The server at an address, with every other setting as it comes.
    pub fn at(url: ServiceUrl) -> Self {
        Self {
            url,
            format: Format::default(),
            model: None,
            api_key_env: None,
            prompt: None,
            logprobs: true,
            trust_logps: false,
            max_logp_gap: a_little(),
            publish_dir: None,
            server_dir: None,
            extra_body: Map::new(),
            timeout_s: five_minutes(),
            question_timeout_s: ten_minutes(),
            batch_timeout_s: an_hour(),
            tries: MOST_TRIES,
            backoff_s: half_a_second(),
            concurrency: sixteen(),
        }
    }

    /// How prompts are sent.
    pub fn prompt_form(&self) -> PromptForm {
        self.prompt.unwrap_or(match self.format {
            Format::Vllm | Format::Sglang => PromptForm::Ids,
            _ => PromptForm::Text,
        })
    }

    /// Whether the behaviour's adapters are published to the server.
    pub fn publishes(&self) -> bool {
        self.publish_dir.is_some()
    }

    /// Makes relative paths relative to `base`, the folder of the recipe.
    pub fn resolve_paths(&mut self, base: &Path) {
        if let Some(folder) = &mut self.publish_dir {
            *folder = base.join(&*folder).components().collect();
        }
    }

    /// Checks what no single key can check; nothing is read or asked.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that contradict each other or have no effect.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Config(reason));
        self.api_key_env.as_deref().map_or(Ok(()), check_variable).map_err(Error::Config)?;
        self.patience()?;
        if !(1..=256).contains(&self.concurrency) {
            return refuse(format!("`concurrency` is {}: expected 1 to 256", self.concurrency));
        }
        let taken = ["prompt", "input_ids", "text", "model", "stream", "n", "seed", "lora_path"];
        if let Some(key) = taken.into_iter().find(|key| self.extra_body.contains_key(*key)) {
            return refuse(format!("`extra_body.{key}` is not free: it would change what is asked"));
        }
        let format = self.format.name();
        if self.format == Format::Transformers && self.prompt == Some(PromptForm::Ids) {
            return refuse("`prompt = \"ids\"`: transformers serve takes texts only".into());
        }
        if self.format == Format::Transformers && self.model.is_none() {
            return refuse(
                "`model` is needed for `format = \"transformers\"`: the folder or hub id that it serves".into(),
            );
        }
        if self.trust_logps && !matches!(self.format, Format::Vllm | Format::Sglang | Format::LlamaCpp) {
            return refuse(format!(
                "`trust_logps` needs token ids with their log-probs, and `format = \"{format}\"` has none"
            ));
        }
        if self.trust_logps && !self.logprobs {
            return refuse("`trust_logps` has no effect with `logprobs = false`".into());
        }
        if !(self.max_logp_gap.is_finite() && self.max_logp_gap > 0.0) {
            return refuse(format!("`max_logp_gap` is {}: expected a number above 0", self.max_logp_gap));
        }
        if self.server_dir.is_some() && !self.publishes() {
            return refuse("`server_dir` has no effect without `publish_dir`".into());
        }
        if self.publishes() && !self.format.loads_adapters() {
            let why = match self.format {
                Format::LlamaCpp => {
                    "llama.cpp's servers read adapters as GGUF files when they start, and /lora-adapters only sets scales"
                }
                _ => "a plain OpenAI-compatible server has no way to load an adapter",
            };
            return refuse(format!(
                "`publish_dir` has no effect with `format = \"{format}\"`: {why}; vllm, sglang and transformers can"
            ));
        }
        Ok(())
    }

    pub(super) fn patience(&self) -> Result<Patience, Error> {
        let waits = Waits {
            timeout_s: self.timeout_s,
            question_timeout_s: self.question_timeout_s,
            batch_timeout_s: self.batch_timeout_s,
            tries: self.tries,
            backoff_s: self.backoff_s,
        };
        waits.try_into().map_err(Error::Config)
    }

    /// The server, ready to be asked; its list of models is read where `model` does not say.
    ///
    /// # Errors
    /// [`Error::Config`] for bad settings or a key that is not there, [`Error::Refused`] where the server has no
    /// single model.
    pub fn build(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Sampler, Error> {
        self.check()?;
        let secret = self.api_key_env.as_deref().map(|name| key(name, environment)).transpose();
        let client = Client::new(secret.map_err(Error::Config)?, self.concurrency, LONGEST_REPLY);
        let patience = self.patience()?;
        let model = match (&self.model, self.format) {
            (Some(model), _) => model.clone(),
            (None, Format::Sglang) => String::new(),
            (None, _) => {
                let listed = client.models(&self.url, &patience);
                let refused = |(status, reason)| Error::Refused { url: self.url.below("/models"), status, reason };
                only_model(&self.url, &listed.map_err(refused)?).map_err(Error::Config)?
            }
        };
        Ok(Sampler::new(self.clone(), client, patience, model))
    }
}
