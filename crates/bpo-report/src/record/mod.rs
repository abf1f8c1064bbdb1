//! A run as it is on disk, read without disturbing it: settings, metrics, verdicts, evaluations, a few samples.
mod phases;
mod texts;

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use bpo_annotate::Verdict;
use bpo_store::JournalView;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::Error;

pub use phases::Phase;
pub use texts::{Exchange, Piece, Response, Texts};

/// Sample pairs from training, at most; each of another part of the run.
const PAIRS: usize = 8;
/// Held-out prompts whose responses are shown, at most.
const HELD_OUT: usize = 3;

/// A run, or what there is of it.
#[derive(Debug)]
pub struct Record {
    /// The folder's name.
    pub name: String,
    /// The effective recipe, as TOML and as keys.
    pub recipe: (String, toml::Table),
    /// BLAKE3 hashes of what it read, and the device.
    pub inputs: BTreeMap<String, String>,
    /// The summary of a finished run.
    pub finished: Option<Value>,
    /// The metrics of its steps.
    pub metrics: Vec<Map<String, Value>>,
    /// Its phases of data collection, or several of them as one.
    pub phases: Vec<Phase>,
    /// Steps at which a phase begins, the first one's 0 included.
    pub boundaries: Vec<f64>,
    /// Held-out prompts before and after training.
    pub held_out: Vec<Exchange>,
    /// Evaluations, by step.
    pub evaluations: Vec<(u64, Evaluation)>,
}

/// A sampled completion, as journals keep it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Sample {
    tokens: Vec<u32>,
    logps: Vec<f32>,
    text: String,
}

/// A prompt's completions.
#[derive(Debug, Clone, Deserialize)]
struct Drawn {
    prompt: usize,
    samples: Vec<Sample>,
}

/// What was said about them.
#[derive(Debug, Clone, Deserialize)]
struct Choice {
    pair: [usize; 2],
    verdict: Verdict,
    scores: Vec<Option<f64>>,
}

impl Choice {
    /// Scores of the two that were compared.
    fn scores(&self) -> [Option<f64>; 2] {
        self.pair.map(|candidate| self.scores.get(candidate).copied().flatten())
    }
}

/// A policy on the held-out prompts.
#[derive(Debug, Clone, Deserialize)]
pub struct Evaluation {
    responses: Vec<Drawn>,
    scores: Option<Vec<Option<f64>>>,
    reference_wins: Option<Vec<Option<f64>>>,
    /// KL to the start, nats per response.
    pub kl: Option<f64>,
    start_logps: Option<Vec<Vec<f32>>>,
}

/// Log-probs of tokens under the trained policy, which the last step of a run leaves.
#[derive(Debug, Clone, Default, Deserialize)]
struct Contrast {
    held_out: Vec<Vec<f32>>,
    pairs: Vec<JudgedPair>,
}

#[derive(Debug, Clone, Deserialize)]
struct JudgedPair {
    step: u64,
    place: usize,
    logps: Vec<Vec<f32>>,
}

/// log π − log π_reference, token by token.
fn log_ratios(policy: &[f32], reference: &[f32]) -> Option<Vec<f32>> {
    (policy.len() == reference.len()).then(|| policy.iter().zip(reference).map(|(p, r)| p - r).collect())
}

impl Evaluation {
    /// Share of responses that win against their reference text.
    pub fn reference_win_rate(&self) -> Option<f64> {
        mean(self.reference_wins.iter().flatten().flatten())
    }

    /// Mean score.
    pub fn score(&self) -> Option<f64> {
        mean(self.scores.iter().flatten().flatten())
    }

    /// Mean length of the responses in tokens.
    pub fn length(&self) -> Option<f64> {
        let lengths: Vec<f64> = self.samples().map(|sample| sample.tokens.len() as f64).collect();
        mean(lengths.iter())
    }

    /// Share of different responses.
    pub fn distinct(&self) -> Option<f64> {
        let texts: std::collections::HashSet<&str> = self.samples().map(|sample| sample.text.as_str()).collect();
        let count = self.samples().count();
        (count > 0).then(|| texts.len() as f64 / count as f64)
    }

    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.responses.iter().flat_map(|drawn| &drawn.samples)
    }

    /// Share of prompts on which it has the higher score than `start`; ties count half.
    pub fn win_rate(&self, start: &Self) -> Option<f64> {
        let pairs = self.scores.iter().flatten().zip(start.scores.iter().flatten());
        let wins: Vec<f64> = pairs
            .filter_map(|(ours, theirs)| {
                let (ours, theirs) = ((*ours)?, (*theirs)?);
                Some(if ours == theirs { 0.5 } else { f64::from(ours > theirs) })
            })
            .collect();
        mean(wins.iter())
    }
}

fn mean<'a>(values: impl Iterator<Item = &'a f64>) -> Option<f64> {
    let values: Vec<f64> = values.copied().collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

impl Record {
    /// Reads the run in `dir`; `texts` knows what the journal has only numbers for.
    ///
    /// # Errors
    /// [`Error`]; a run without metrics, or without a journal, is none.
    pub fn read(dir: &Path, texts: &dyn Texts) -> Result<Self, Error> {
        let recipe = read_text(&dir.join("recipe.toml"))?.ok_or_else(|| Error::NotARun { path: dir.to_owned() })?;
        let table: toml::Table =
            recipe.parse().map_err(|error: toml::de::Error| damaged(dir, "recipe.toml", &error))?;
        let metrics = metrics(dir)?;
        let finished: Option<Value> = json(dir, "finished.json")?;
        if finished.is_some() && metrics.is_empty() {
            return Err(Error::NoSteps { path: dir.to_owned() });
        }
        let journal = JournalView::open(dir)?;
        // Records of texts with outcomes have another form, and no pairs.
        let has_pairs = !table.contains_key("outcomes");
        let contrast = contrast(&journal)?;
        let judged = has_pairs.then_some((&journal, contrast.pairs.as_slice()));
        let (phases, boundaries) = phases::phases(&metrics, judged, PAIRS, texts)?;
        let evaluations = evaluations(&journal)?;
        let held_out = held_out(&evaluations, &contrast.held_out, finished.as_ref(), texts);
        let name = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        Ok(Self {
            name: name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned(),
            recipe: (recipe, table),
            inputs: json(dir, "inputs.json")?.unwrap_or_default(),
            finished,
            metrics,
            phases,
            boundaries,
            held_out,
            evaluations,
        })
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.metrics.last().and_then(|line| line.get("step")?.as_u64()).unwrap_or(0)
    }

    /// Step and value of a metric, where it is a finite number.
    pub fn series(&self, key: &str) -> Vec<[f64; 2]> {
        let point = |line: &Map<String, Value>| Some([line.get("step")?.as_f64()?, line.get(key)?.as_f64()?]);
        self.metrics.iter().filter_map(point).collect()
    }

    /// A key of the recipe, as text.
    pub fn setting(&self, key: &str) -> Option<String> {
        match self.recipe.1.get(key)? {
            toml::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

fn damaged(dir: &Path, name: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::Damaged { path: dir.join(name), reason: reason.to_string().trim_end().to_owned() }
}

fn read_text(path: &PathBuf) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { action: "read", path: path.clone(), source }),
    }
}

fn json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, Error> {
    let Some(text) = read_text(&dir.join(name))? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| damaged(dir, name, &error))
}

/// Every line; the last one of a run in progress may be torn.
fn metrics(dir: &Path) -> Result<Vec<Map<String, Value>>, Error> {
    let text = read_text(&dir.join("metrics.jsonl"))?.unwrap_or_default();
    let mut metrics = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str(line) {
            Ok(record) => metrics.push(record),
            Err(_) if !line.ends_with('\n') => {}
            Err(error) => return Err(damaged(dir, "metrics.jsonl", &format!("line {}: {error}", number + 1))),
        }
    }
    Ok(metrics)
}

/// A record of the journal; none of another form is looked for.
fn recorded<T: DeserializeOwned>(journal: &JournalView, step: u64, kind: &str) -> Result<Option<T>, Error> {
    let Some(payload) = journal.get(step, kind)? else { return Ok(None) };
    let reason = |error| Error::Damaged {
        path: PathBuf::from("journal.bin"),
        reason: format!("\"{kind}\" of step {step}: {error}"),
    };
    serde_json::from_slice(&payload).map(Some).map_err(reason)
}

fn evaluations(journal: &JournalView) -> Result<Vec<(u64, Evaluation)>, Error> {
    let mut evaluations = Vec::new();
    for (step, kind) in journal.records() {
        if matches!(kind, "eval/start" | "eval/between" | "eval/end") {
            evaluations.extend(recorded(journal, step, kind)?.map(|evaluation| (step, evaluation)));
        }
    }
    Ok(evaluations)
}

/// What the end of a run left; of one that has not ended, nothing.
fn contrast(journal: &JournalView) -> Result<Contrast, Error> {
    let step = journal.records().find(|(_, kind)| *kind == "eval/contrast").map(|(step, _)| step);
    Ok(step.map_or(Ok(None), |step| recorded(journal, step, "eval/contrast"))?.unwrap_or_default())
}

/// The first held-out prompts, under the first policy and the last one that was evaluated.
fn held_out(
    evaluations: &[(u64, Evaluation)],
    trained: &[Vec<f32>],
    finished: Option<&Value>,
    texts: &dyn Texts,
) -> Vec<Exchange> {
    let [(_, before), .., (step, after)] = evaluations else { return Vec::new() };
    let prompt = |index: usize| finished?.get("samples")?.get(index)?.get("prompt")?.as_str().map(str::to_owned);
    let sample = |evaluation: &'_ Evaluation, index: usize| evaluation.responses.get(index)?.samples.first().cloned();
    let response = |title: String, evaluation: &Evaluation, index: usize, ratios: Option<Vec<f32>>| {
        let score = evaluation.scores.as_ref().and_then(|scores| scores.get(index).copied().flatten());
        Some(Response::of(title, &sample(evaluation, index)?, score, ratios, texts))
    };
    // The first was drawn by the start, the other by the policy: each has the other's log-probs beside its own.
    let of_before = |index: usize| log_ratios(trained.get(index)?, &sample(before, index)?.logps);
    let of_after = |index: usize| log_ratios(&sample(after, index)?.logps, after.start_logps.as_ref()?.get(index)?);
    let exchange = |index: usize| {
        let responses = [
            response("before".into(), before, index, of_before(index))?,
            response(format!("after {step} steps"), after, index, of_after(index))?,
        ];
        let title = format!("Held-out prompt {}", index + 1);
        Some(Exchange { title, prompt: prompt(index), responses, verdict: None })
    };
    (0..HELD_OUT).map_while(exchange).collect()
}
