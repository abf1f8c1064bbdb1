//! Settings of annotators behind HTTP.

use std::path::{Path, PathBuf};

use bpo_service::{Waits, only_model};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Mode, Parts};
use crate::cache::Cache;
use crate::chat::{COMPARE, COMPARE_NAMES, Chat, ChatJudge, ChatRater, RATE, RATE_NAMES, Template};
use crate::reward::{NAMES, RewardEndpoint};
use crate::service::Service;
use crate::{Budget, Error, Patience, RewardFormat, ServiceUrl};

/// Settings of a language model as judge, behind a server that speaks OpenAI's chat completions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatConfig {
    /// The address up to and with `/v1`: what `/chat/completions` comes behind.
    pub url: ServiceUrl,
    /// The model's name there; without one, the only one that the server lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `compare` (the default) asks for A, B or tie; `score` for a rating.
    #[serde(default = "compare")]
    pub mode: Mode,
    /// The environment variable that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// A system message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// A Jinja file that makes the user's message out of `prompt`, `first`, `second`; of a rating out of `prompt`,
    /// `response`, `lowest`, `highest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
    /// The ends of the scale of a rating, `[1, 10]` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<[f64; 2]>,
    /// 0 is greedy.
    #[serde(default)]
    pub temperature: f64,
    /// Tokens of a reply; 0 leaves it to the server.
    #[serde(default = "a_few")]
    pub max_new_tokens: u32,
    /// More keys of the request, put over its own.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra_body: Map<String, Value>,
}

/// Settings of a reward model behind HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardEndpointConfig {
    /// The address that is posted to.
    pub url: ServiceUrl,
    /// What is posted and what comes back.
    #[serde(default)]
    pub format: RewardFormat,
    /// The model's name there, where the server has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The environment variable that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// A Jinja file that makes one text out of `prompt` and `response`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
    /// Responses in one request.
    #[serde(default = "sixteen")]
    pub batch_size: usize,
    /// More keys of the request, put over its own.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra_body: Map<String, Value>,
}

/// How a service is asked: none of these keys decides an answer, and a run may be continued with other ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// Seconds for one try.
    pub timeout_s: f64,
    /// Seconds for one question, all tries and waits.
    pub question_timeout_s: f64,
    /// Seconds for all questions that are asked together.
    pub batch_timeout_s: f64,
    /// Tries of one question, 1 to 4.
    pub tries: u32,
    /// Seconds before the second try; doubled each time, jittered; a `Retry-After` counts instead.
    pub backoff_s: f64,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Questions at most, since the program was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_questions: Option<u64>,
    /// Tokens at most, since the program was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_tokens: Option<u64>,
    /// The folder of answers; `false` keeps none, `true` is the program's own.
    pub cache: CacheChoice,
}

/// Where answers are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CacheChoice {
    /// In the program's own folder, or nowhere.
    Is(bool),
    /// In this folder.
    Folder(PathBuf),
}

fn compare() -> Mode {
    Mode::Compare
}

fn a_few() -> u32 {
    16
}

fn sixteen() -> usize {
    16
}

impl Default for ServiceConfig {
    fn default() -> Self {
        let patience = Patience::default();
        Self {
            timeout_s: patience.one_try.as_secs_f64(),
            question_timeout_s: patience.question.as_secs_f64(),
            batch_timeout_s: patience.batch.as_secs_f64(),
            tries: patience.tries,
            backoff_s: patience.backoff.as_secs_f64(),
            concurrency: 4,
            budget_questions: None,
            budget_tokens: None,
            cache: CacheChoice::Is(true),
        }
    }
}

impl ServiceConfig {
    /// Every key, for those who take a table apart.
    pub const KEYS: [&'static str; 9] = [
        "timeout_s",
        "question_timeout_s",
        "batch_timeout_s",
        "tries",
        "backoff_s",
        "concurrency",
        "budget_questions",
        "budget_tokens",
        "cache",
    ];

    pub(super) fn check(&self) -> Result<(), Error> {
        self.patience()?;
        if !(1..=64).contains(&self.concurrency) {
            let given = self.concurrency;
            return Err(Error::Config(format!("`concurrency` is {given}: expected 1 to 64")));
        }
        Ok(())
    }

    fn patience(&self) -> Result<Patience, Error> {
        let waits = Waits {
            timeout_s: self.timeout_s,
            question_timeout_s: self.question_timeout_s,
            batch_timeout_s: self.batch_timeout_s,
            tries: self.tries,
            backoff_s: self.backoff_s,
        };
        waits.try_into().map_err(Error::Config)
    }

    /// The service, before its answers are kept anywhere.
    fn service(&self, url: &ServiceUrl, key_env: Option<&str>, parts: &dyn Parts) -> Result<Service, Error> {
        let key = key_env.map(|name| bpo_service::key(name, |name| parts.environment(name)));
        let key = key.transpose().map_err(Error::Key)?;
        let mut service = Service::new(url.clone(), key, self.concurrency);
        service.patience = self.patience()?;
        service.budget = Budget { questions: self.budget_questions, tokens: self.budget_tokens };
        Ok(service)
    }

    fn cache(&self, identity: &str, parts: &dyn Parts) -> Result<Cache, Error> {
        match &self.cache {
            CacheChoice::Is(false) => Ok(Cache::default()),
            CacheChoice::Is(true) => {
                parts.cache_folder().map_or_else(|| Ok(Cache::default()), |folder| Cache::open(&folder, identity))
            }
            CacheChoice::Folder(folder) => Cache::open(folder, identity),
        }
    }

    pub(super) fn resolve_paths(&mut self, base: &Path) {
        if let CacheChoice::Folder(folder) = &mut self.cache {
            *folder = base.join(&folder);
        }
    }
}

fn check_variable(name: &str) -> Result<(), Error> {
    bpo_service::check_variable(name).map_err(Error::Key)
}

impl ChatConfig {
    /// The judge at an address, with every other setting as it comes.
    pub fn at(url: ServiceUrl) -> Self {
        Self {
            url,
            model: None,
            mode: Mode::Compare,
            api_key_env: None,
            system: None,
            template: None,
            scale: None,
            temperature: 0.0,
            max_new_tokens: a_few(),
            extra_body: Map::new(),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.api_key_env.as_deref().map_or(Ok(()), check_variable)?;
        check_extra(&self.extra_body)?;
        if self.mode == Mode::Compare && self.scale.is_some() {
            return Err(Error::Config("`scale` has no effect on comparisons: it is for `mode = \"score\"`".to_owned()));
        }
        if let Some([lowest, highest]) = self.scale
            && !(lowest.is_finite() && highest.is_finite() && lowest < highest)
        {
            return Err(Error::Config(format!(
                "`scale` is [{lowest}, {highest}]: expected the lowest and the highest"
            )));
        }
        match self.temperature.is_finite() && self.temperature >= 0.0 {
            true => Ok(()),
            false => Err(Error::Config(format!("`temperature` is {}: expected 0 or above", self.temperature))),
        }
    }

    fn chat(&self, service: &Service) -> Result<Chat, Error> {
        let (names, built_in): (&[&'static str], &str) = match self.mode {
            Mode::Compare => (&COMPARE_NAMES, COMPARE),
            Mode::Score => (&RATE_NAMES, RATE),
        };
        let template = match &self.template {
            Some(path) => Template::read(path, names)?,
            None => Template::new("(built in)", built_in)?,
        };
        let model = match &self.model {
            Some(model) => model.clone(),
            None => only_model(&service.url, &service.models()?).map_err(Error::Config)?,
        };
        let (system, extra_body) = (self.system.clone(), self.extra_body.clone());
        Ok(Chat {
            model,
            system,
            template,
            temperature: self.temperature,
            max_new_tokens: self.max_new_tokens,
            extra_body,
        })
    }

    pub(super) fn judge(&self, service: &ServiceConfig, parts: &dyn Parts) -> Result<ChatJudge, Error> {
        let mut asked = service.service(&self.url, self.api_key_env.as_deref(), parts)?;
        let chat = self.chat(&asked)?;
        asked.keep_answers(service.cache(&chat.identity(&self.url, None), parts)?);
        Ok(ChatJudge::new(chat, asked))
    }

    pub(super) fn rater(&self, service: &ServiceConfig, parts: &dyn Parts) -> Result<ChatRater, Error> {
        let mut asked = service.service(&self.url, self.api_key_env.as_deref(), parts)?;
        let (chat, scale) = (self.chat(&asked)?, self.scale.unwrap_or([1.0, 10.0]));
        asked.keep_answers(service.cache(&chat.identity(&self.url, Some(scale)), parts)?);
        Ok(ChatRater::new(chat, asked, scale))
    }
}

/// A key of a request may replace any but those that this crate answers for.
fn check_extra(extra: &Map<String, Value>) -> Result<(), Error> {
    let taken = ["messages", "model", "stream", "n", "input", "inputs", "items", "query", "prompts"];
    match taken.into_iter().find(|key| extra.contains_key(*key)) {
        Some(key) => Err(Error::Config(format!("`extra_body.{key}` is not free: it would change what is asked"))),
        None => Ok(()),
    }
}

impl RewardEndpointConfig {
    pub(super) fn check(&self) -> Result<(), Error> {
        self.api_key_env.as_deref().map_or(Ok(()), check_variable)?;
        check_extra(&self.extra_body)?;
        if !(1..=1024).contains(&self.batch_size) {
            return Err(Error::Config(format!("`batch_size` is {}: expected 1 to 1024", self.batch_size)));
        }
        match (self.format, &self.template) {
            (RewardFormat::Vllm, None) => Err(Error::Config(
                "`format = \"vllm\"` needs a `template`, which makes one text out of `prompt` and `response`"
                    .to_owned(),
            )),
            (RewardFormat::Scores, Some(_)) => {
                Err(Error::Config("`template` has no effect on `format = \"scores\"`".to_owned()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn build(&self, service: &ServiceConfig, parts: &dyn Parts) -> Result<RewardEndpoint, Error> {
        let mut endpoint = RewardEndpoint {
            format: self.format,
            model: self.model.clone(),
            template: self.template.as_deref().map(|path| Template::read(path, &NAMES)).transpose()?,
            together: self.batch_size,
            extra_body: self.extra_body.clone(),
            service: service.service(&self.url, self.api_key_env.as_deref(), parts)?,
        };
        let identity = endpoint.cache_identity();
        endpoint.service.keep_answers(service.cache(&identity, parts)?);
        Ok(endpoint)
    }
}
