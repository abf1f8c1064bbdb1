//! What can be typed after `bpo eval`.
use std::path::PathBuf;

use bpo_annotate::AnnotatorConfig;
use bpo_model::Dtype;
use bpo_sampler::Sampling;
use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::{embedded, source::ModelSource};

/// How often a policy wins, against reference texts, another policy or saved responses
#[derive(Debug, Args)]
#[command(
    after_help = "\
Saved responses are rows with a prompt and its response: those of `bpo generate --json`, of TRL, message
lists, or {\"instruction\",\"output\"}. Prompts are matched by their text. docs/evaluation.md says what is
measured.

Examples:
  bpo eval --model embedded --adapter runs/story/adapter
  bpo eval --model DIR --adapter runs/a/adapter --against-adapter runs/b/adapter --prompts test.jsonl
  bpo eval --model DIR --references test.jsonl --annotator vader_lexicon.txt --json > rows.jsonl
  bpo eval --model runs/full/model --start-model DIR --prompts test.jsonl
  bpo eval --outputs ours.jsonl --against-outputs theirs.jsonl --annotator http://127.0.0.1:8000/v1 \\
    --run-dir evals/ours --csv rows.csv",
    group(ArgGroup::new("against").args(["against_base", "against_model", "against_outputs"]))
)]
pub struct EvalArgs {
    /// Model directory, or `embedded`
    #[arg(long, value_name = "DIR", default_value = embedded::NAME)]
    pub model: ModelSource,
    /// PEFT adapter of the policy
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The model that training began with, for the KL [default: with --adapter, the model without it]
    #[arg(long, value_name = "DIR", conflicts_with = "outputs")]
    pub start_model: Option<ModelSource>,
    /// Saved responses instead of a model's: rows with a prompt and its response
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "adapter", "tokenizer", "against_base", "against_adapter"])]
    pub outputs: Option<PathBuf>,
    /// What the weights are kept in: auto (a bfloat16 file as it is, where that loses nothing), float32 or bfloat16
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    pub dtype: Dtype,
    /// Tokenizer [default: the model's]
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,
    /// Rows with a prompt and a reference text, or `embedded`; without the texts to compare two policies [default:
    /// embedded; with --outputs none]
    #[arg(long, value_name = "FILE")]
    pub references: Option<String>,
    /// Rows with a prompt; reference texts are used where rows have one
    #[arg(long, value_name = "FILE", conflicts_with = "references")]
    pub prompts: Option<PathBuf>,
    /// Compare with the model without any adapter
    #[arg(long, conflicts_with = "against_adapter")]
    pub against_base: bool,
    /// Compare with another model, read with its own tokenizer
    #[arg(long, value_name = "DIR")]
    pub against_model: Option<ModelSource>,
    /// Compare with the model (or that of --against-model) under this adapter
    #[arg(long, value_name = "DIR", conflicts_with = "against_outputs")]
    pub against_adapter: Option<PathBuf>,
    /// Compare with saved responses
    #[arg(long, value_name = "FILE")]
    pub against_outputs: Option<PathBuf>,
    /// `lexicon`, a VADER file, `length`, a reward model's folder, the address of an OpenAI-compatible server, a
    /// TOML table or list (docs/annotators.md), or a recipe (FILE.toml) that has one
    #[arg(long, default_value = "lexicon")]
    pub annotator: String,
    /// Prompts at most [default: 200; with --outputs all of the file]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub size: Option<u32>,
    /// Tokens at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_new_tokens: u32,
    /// 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub temperature: f64,
    /// Keep the K most probable tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Keep the most probable tokens up to this mass
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f64,
    /// Put plain prompts to the model as a user's message
    #[arg(long)]
    pub apply_chat_template: bool,
    /// Completions decoded together
    #[arg(long, value_name = "B", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// Decides every random choice
    #[arg(long, value_name = "S", default_value_t = 42)]
    pub seed: u64,
    /// Folder for what was sampled and answered: the same command after an interruption asks and samples nothing twice
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// One row per prompt as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// One JSON line per prompt and a last one with the totals
    #[arg(long)]
    pub json: bool,
}

/// Prompts where a model samples and nobody says how many.
const SIZE: usize = 200;

impl EvalArgs {
    pub fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, ..Sampling::default() }
    }

    pub fn size(&self) -> usize {
        match (self.size, &self.outputs) {
            (Some(size), _) => size as usize,
            (None, Some(_)) => usize::MAX,
            (None, None) => SIZE,
        }
    }

    /// What the prompts come from, as it was given.
    pub fn rows_name(&self) -> String {
        let prompts = self.prompts.as_ref().map(|path| path.display().to_string());
        prompts.or_else(|| self.references.clone()).unwrap_or_else(|| "references".to_owned())
    }

    pub fn compares(&self) -> bool {
        let others = [self.against_model.is_some(), self.against_adapter.is_some(), self.against_outputs.is_some()];
        self.against_base || others.contains(&true)
    }

    /// What decides the outcome, as a run's folder keeps it.
    pub fn settings<'a>(&'a self, annotator: &'a AnnotatorConfig) -> Settings<'a> {
        let text = |model: &ModelSource| model.to_string();
        let samples = self.outputs.is_none() || self.against_model.is_some();
        Settings {
            model: self.outputs.is_none().then(|| text(&self.model)),
            adapter: self.adapter.as_ref(),
            start_model: self.start_model.as_ref().map(text),
            outputs: self.outputs.as_ref(),
            tokenizer: self.tokenizer.as_ref(),
            references: self.references.as_deref(),
            prompts: self.prompts.as_ref(),
            against_base: self.against_base,
            against_model: self.against_model.as_ref().map(text),
            against_adapter: self.against_adapter.as_ref(),
            against_outputs: self.against_outputs.as_ref(),
            size: self.size,
            sampling: samples.then_some(SamplingSettings {
                dtype: self.dtype,
                max_new_tokens: self.max_new_tokens,
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                apply_chat_template: self.apply_chat_template,
                batch_size: self.batch_size,
            }),
            seed: self.seed,
            annotator,
        }
    }
}

/// See [`EvalArgs::settings`].
#[derive(Debug, Serialize)]
pub struct Settings<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    references: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompts: Option<&'a PathBuf>,
    against_base: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    against_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against_adapter: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against_outputs: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
    seed: u64,
    #[serde(flatten)]
    sampling: Option<SamplingSettings>,
    annotator: &'a AnnotatorConfig,
}

#[derive(Debug, Serialize)]
struct SamplingSettings {
    dtype: Dtype,
    max_new_tokens: u32,
    temperature: f64,
    top_k: usize,
    top_p: f64,
    apply_chat_template: bool,
    batch_size: u32,
}
