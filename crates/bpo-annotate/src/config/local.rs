//! Settings of judges that are models of this machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Mode, Parts};
use crate::Error;
use crate::chat::{COMPARE, COMPARE_NAMES, RATE, RATE_NAMES, Template};
use crate::local::{LocalJudge, LocalRater, Settings, Told};

/// Settings of a language model of this machine as judge, which [`Parts::judge_model`] loads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeConfig {
    /// The model's folder, or `embedded`.
    pub model: PathBuf,
    /// `compare` (the default) asks for A, B or tie; `score` for a rating.
    #[serde(default = "compare")]
    pub mode: Mode,
    /// What of the model's answer counts.
    #[serde(default)]
    pub reading: Reading,
    /// A system message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// A Jinja file, as of `chat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
    /// The ends of the scale of a rating, whole numbers, `[1, 10]` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<[i64; 2]>,
    /// Tokens of a reply, 16 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
}

/// How an answer of a local judge is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// The most probable of the possible answers; of ratings the mean by probability.
    #[default]
    Logprobs,
    /// What the model writes, as of `chat`.
    Reply,
}

/// Settings of a model that reads both responses at once, which [`Parts::pair_ranker`] loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairRankerConfig {
    /// The model's folder.
    pub path: PathBuf,
    /// A Jinja file that makes one text of both responses out of `first` and `second` (and `prompt`), which the model reads
    /// behind the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
}

/// The program's own model.
pub(super) const EMBEDDED: &str = "embedded";
/// Most ratings that a scale has.
const RATINGS: i64 = 101;
/// What a cross-encoder reads behind the prompt.
const BOTH: &str = "Response A: {{ first }}\n\nResponse B: {{ second }}";

fn compare() -> Mode {
    Mode::Compare
}

/// How a cross-encoder's second text is made of two responses.
#[derive(Debug)]
pub struct PairTemplate(Template);

impl PairTemplate {
    /// The text of two responses.
    ///
    /// # Errors
    /// [`Error::Template`].
    pub fn render(&self, prompt: &str, first: &str, second: &str) -> Result<String, Error> {
        self.0.render(&[("prompt", prompt), ("first", first), ("second", second)])
    }
}

impl JudgeConfig {
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Config(reason));
        if self.mode == Mode::Compare && self.scale.is_some() {
            return refuse("`scale` has no effect on comparisons: it is for `mode = \"score\"`".to_owned());
        }
        if let Some([lowest, highest]) = self.scale
            && (lowest >= highest || highest.saturating_sub(lowest) >= RATINGS)
        {
            return refuse(format!(
                "`scale` is [{lowest}, {highest}]: expected the lowest and the highest of at most {RATINGS} ratings"
            ));
        }
        match (self.reading, self.max_new_tokens) {
            (Reading::Logprobs, Some(_)) => {
                refuse("`max_new_tokens` has no effect on log-probs: it is for `reading = \"reply\"`".to_owned())
            }
            (_, Some(0)) => refuse("`max_new_tokens` is 0: expected at least 1".to_owned()),
            _ => Ok(()),
        }
    }

    fn settings(&self) -> Result<Settings, Error> {
        let (names, built_in): (&[&'static str], &str) = match self.mode {
            Mode::Compare => (&COMPARE_NAMES, COMPARE),
            Mode::Score => (&RATE_NAMES, RATE),
        };
        let template = match &self.template {
            Some(path) => Template::read(path, names)?,
            None => Template::new("(built in)", built_in)?,
        };
        let (system, max_new_tokens) = (self.system.clone(), self.max_new_tokens.unwrap_or(16));
        Ok(Settings { system, template, reading: self.reading, max_new_tokens })
    }

    pub(super) fn judge(&self, parts: &mut dyn Parts) -> Result<LocalJudge, Error> {
        let settings = self.settings()?;
        Ok(LocalJudge { model: parts.judge_model(&self.model)?, settings, told: Told::default() })
    }

    pub(super) fn rater(&self, parts: &mut dyn Parts) -> Result<LocalRater, Error> {
        let (settings, scale) = (self.settings()?, self.scale.unwrap_or([1, 10]));
        Ok(LocalRater { model: parts.judge_model(&self.model)?, settings, scale, told: Told::default() })
    }
}

impl PairRankerConfig {
    pub(super) fn template(&self) -> Result<PairTemplate, Error> {
        Ok(PairTemplate(match &self.template {
            Some(path) => Template::read(path, &COMPARE_NAMES)?,
            None => Template::new("(built in)", BOTH)?,
        }))
    }
}
