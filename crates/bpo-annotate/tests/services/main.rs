//! Annotators behind HTTP against a server that misbehaves by script: what is no answer is never a label, nobody is
//! asked twice, and nobody is told the key.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod cost;
mod faults;
mod reward;
mod secrets;
mod server;

use std::path::{Path, PathBuf};

use bpo_annotate::{Annotator, AnnotatorConfig, Comparison, Error, Judgement, Parts, Scorer, Verdict};
use serde_json::{Value, json};

/// The key in the environment of these tests.
pub const CANARY: &str = "sk-canary-4f1d9b/+\"x";

/// What the program would supply.
pub struct Given {
    pub cache: Option<PathBuf>,
}

impl Parts for Given {
    fn embedded_lexicon(&self) -> &[u8] {
        b"good\t2.0\n"
    }

    fn reward_model(&mut self, folder: &Path) -> Result<Box<dyn Scorer + Send>, Error> {
        Err(Error::Load { name: folder.display().to_string(), reason: "none here".into() })
    }

    fn environment(&self, name: &str) -> Option<String> {
        (name == "JUDGE_KEY").then(|| CANARY.to_owned())
    }

    fn cache_folder(&self) -> Option<PathBuf> {
        self.cache.clone()
    }
}

/// The annotator of settings in JSON.
pub fn built(settings: &Value) -> Box<dyn Annotator + Send> {
    with_cache(settings, None).unwrap()
}

pub fn with_cache(settings: &Value, cache: Option<&Path>) -> Result<Box<dyn Annotator + Send>, Error> {
    let config: AnnotatorConfig = serde_json::from_value(settings.clone()).unwrap();
    config.build(&mut Given { cache: cache.map(Path::to_owned) })
}

/// Settings of a judge at `url` that waits less than is usual, with `more` on top.
pub fn quick(url: &str, more: &Value) -> Value {
    let mut settings = json!({
        "kind": "chat", "url": format!("{url}/v1"), "model": "m", "timeout_s": 5.0, "question_timeout_s": 10.0,
        "batch_timeout_s": 30.0, "backoff_s": 0.002, "concurrency": 8, "cache": false,
    });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

/// `count` pairs; the good response is the first one of every even pair.
pub fn pairs(from: usize, count: usize) -> Vec<Comparison> {
    let pair = |at: usize| {
        let (good, bad) = (format!("good {at}"), format!("bad {at}"));
        let (first, second) = if at.is_multiple_of(2) { (good, bad) } else { (bad, good) };
        Comparison { prompt: format!("question {at}"), first, second }
    };
    (from..from + count).map(pair).collect()
}

/// What an honest judge says about [`pairs`].
pub fn right(pair: &Comparison) -> Verdict {
    if pair.first.starts_with("good") { Verdict::First } else { Verdict::Second }
}

pub fn verdicts(judgements: Vec<Judgement>) -> Vec<Verdict> {
    judgements.into_iter().map(|judgement| judgement.verdict).collect()
}
