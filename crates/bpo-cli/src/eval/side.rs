//! One side of a comparison: a model that samples, or responses that were saved.
use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use bpo_data::{ReferenceRow, Tokenizer};
use bpo_model::{Adapter, Decoder};
use bpo_sampler::GenerateConfig;
use bpo_train::{Drawn, Error, EvalPrompt, Evaluator, Recipe, TrainPrompt, eval_prompts, log_ratios};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{EvalArgs, recorded::Records, saved::Saved};
use crate::{failure::Failure, progress::Progress, source::ModelSource, train::watch::Watch};

/// Batches sampled between two records.
const BATCHES: usize = 4;
/// Prompts sampled between two records, at least.
const PART: usize = 64;

/// A side with the prompts as it reads them.
pub struct Side<'a> {
    origin: Origin<'a>,
    /// The prompts.
    pub prompts: Vec<EvalPrompt>,
}

enum Origin<'a> {
    Model { source: &'a ModelSource, adapter: Option<&'a Path>, tokenizer: Box<Tokenizer> },
    Saved(&'a Saved),
}

/// One response to each prompt.
pub struct Responses {
    texts: Vec<String>,
    /// Tokens of each, where they are known.
    pub lengths: Option<Vec<usize>>,
    /// Share that ended with EOS, where it is known.
    pub finished: Option<f64>,
    /// Log-ratios to the model that training began with, nats, where that is known and they estimate a KL.
    pub log_ratios: Option<Vec<f64>>,
}

impl Responses {
    /// Their texts.
    pub fn texts(&self) -> Vec<&str> {
        self.texts.iter().map(String::as_str).collect()
    }
}

/// What was sampled at a time, as the journal keeps it.
#[derive(Serialize, Deserialize)]
struct Part {
    responses: Vec<Drawn>,
    log_ratios: Option<Vec<f64>>,
}

/// Loads models when they are needed, and the one that both sides share once.
pub struct Loader<'a> {
    args: &'a EvalArgs,
    device: &'a Device,
    base: Option<Decoder>,
    start: Option<Decoder>,
}

impl<'a> Loader<'a> {
    pub fn new(args: &'a EvalArgs, device: &'a Device) -> Self {
        Self { args, device, base: None, start: None }
    }

    /// The model of `--model`, without an adapter.
    fn base(&mut self) -> Result<&Decoder, Failure> {
        let base = match self.base.take() {
            Some(base) => base,
            None => self.args.model.load_decoder(self.device, self.args.dtype)?,
        };
        Ok(self.base.insert(base))
    }

    /// The model that training began with, where it is known.
    fn start(&mut self) -> Result<Option<&Decoder>, Failure> {
        let Some(source) = &self.args.start_model else {
            return if self.args.adapter.is_some() { self.base().map(Some) } else { Ok(None) };
        };
        if self.start.is_none() {
            let (theirs, ours) = (source.load_config()?.vocab_size, self.args.model.load_config()?.vocab_size);
            if theirs != ours {
                return Err(Failure::input(format!(
                    "--start-model {source} has {theirs} tokens and the model has {ours}: no KL is between them"
                )));
            }
            self.start = Some(source.load_decoder(self.device, self.args.dtype)?);
        }
        Ok(self.start.as_ref())
    }

    fn policy(&mut self, source: &ModelSource, adapter: Option<&Path>) -> Result<Decoder, Failure> {
        let device = self.device;
        if *source != self.args.model || self.args.outputs.is_some() {
            return source.load_with_adapter(adapter, device, self.args.dtype);
        }
        let base = self.base()?;
        match adapter {
            Some(folder) => Ok(base.with_adapter(&Adapter::from_dir(folder, device)?, 0.0)?),
            None => Ok(base.clone()),
        }
    }
}

impl EvalArgs {
    /// The side that is evaluated.
    pub(super) fn ours<'a>(
        &'a self,
        rows: &[(ReferenceRow, bool)],
        saved: Option<&'a Saved>,
    ) -> Result<Side<'a>, Failure> {
        let Some(saved) = saved else {
            return self.model_side(&self.model, self.adapter.as_deref(), self.tokenizer.as_deref(), rows);
        };
        let prompts = rows.iter().take(self.size()).filter_map(|(row, has_text)| {
            let text = row.prompt.as_ref()?.text();
            let prompt = TrainPrompt { id: row.line, text, ids: Vec::new(), given: Vec::new() };
            Some(EvalPrompt { prompt, reference: has_text.then(|| row.text.clone()) })
        });
        Ok(Side { origin: Origin::Saved(saved), prompts: prompts.collect() })
    }

    /// What it is compared with, if anything.
    pub(super) fn theirs<'a>(
        &'a self,
        rows: &[(ReferenceRow, bool)],
        saved: Option<&'a Saved>,
        ours: &Side<'_>,
    ) -> Result<Option<Side<'a>>, Failure> {
        let adapter = self.against_adapter.as_deref();
        if let Some(saved) = saved {
            let answered = |eval: &&EvalPrompt| saved.response(&eval.prompt.text).is_some();
            let prompts = ours.prompts.iter().filter(answered).cloned().collect();
            return Ok(Some(Side { origin: Origin::Saved(saved), prompts }));
        }
        if let Some(source) = &self.against_model {
            return self.model_side(source, adapter, None, rows).map(Some);
        }
        if !self.compares() {
            return Ok(None);
        }
        let tokenizer = self.model.load_tokenizer_at(self.tokenizer.as_deref())?;
        let origin = Origin::Model { source: &self.model, adapter, tokenizer: Box::new(tokenizer) };
        Ok(Some(Side { origin, prompts: ours.prompts.clone() }))
    }

    /// A model, its tokenizer, and the prompts of `rows` that fit it.
    fn model_side<'a>(
        &self,
        source: &'a ModelSource,
        adapter: Option<&'a Path>,
        tokenizer: Option<&Path>,
        rows: &[(ReferenceRow, bool)],
    ) -> Result<Side<'a>, Failure> {
        let config = source.load_config()?;
        let tokenizer = source.load_matching_tokenizer(tokenizer, &config)?;
        let max_new_tokens = self.max_new_tokens as usize;
        let room = Recipe { max_new_tokens, max_prompt_length: usize::MAX, ..Recipe::default() };
        let limits = room.limits(config.max_position_embeddings).map_err(|error| match error {
            Error::Recipe(reason) => Failure::usage(format!("--max-new-tokens: {reason}")),
            other => other.into(),
        })?;
        let references = rows.iter().map(|(row, _)| row.clone()).collect::<Vec<ReferenceRow>>().into();
        let has_text: BTreeMap<usize, bool> = rows.iter().map(|(row, has_text)| (row.line, *has_text)).collect();
        let (mut prompts, _) =
            eval_prompts((&references, &self.rows_name()), &tokenizer, &limits, self.size(), self.apply_chat_template)?;
        for eval in prompts.iter_mut().filter(|eval| has_text.get(&eval.prompt.id) == Some(&false)) {
            eval.reference = None;
        }
        Ok(Side { origin: Origin::Model { source, adapter, tokenizer: Box::new(tokenizer) }, prompts })
    }
}

/// Leaves the prompts that both have, and says how many those are if they are fewer.
pub fn keep_common<'a>(ours: &mut Side<'a>, theirs: &mut Side<'a>, progress: &Progress) -> Result<(), Failure> {
    let ids = |side: &Side<'_>| -> HashSet<usize> { side.prompts.iter().map(|eval| eval.prompt.id).collect() };
    let (a, b, before) = (ids(ours), ids(theirs), ours.prompts.len());
    for side in [&mut *ours, &mut *theirs] {
        side.prompts.retain(|eval| a.contains(&eval.prompt.id) && b.contains(&eval.prompt.id));
    }
    if let Origin::Saved(saved) = &theirs.origin {
        let common = ours.prompts.len();
        if common == 0 {
            return Err(Failure::input(format!(
                "{}: none of its {} prompts is one of the {before} that are evaluated on; prompts are matched by their text",
                saved.name(),
                saved.len()
            )));
        }
        if common < before {
            progress.say(&format!("note: {common} of {before} prompts have a response in {}", saved.name()));
        }
    }
    Ok(())
}

impl Side<'_> {
    /// The side's responses to its prompts; what is sampled is recorded as that of side `number`.
    pub(super) fn responses(
        &self,
        loader: &mut Loader<'_>,
        (records, number): (&mut Records, u64),
        watch: &mut Watch,
    ) -> Result<Responses, Failure> {
        match &self.origin {
            Origin::Saved(saved) => {
                let text = |eval: &EvalPrompt| saved.response(&eval.prompt.text).unwrap_or_default().to_owned();
                let texts = self.prompts.iter().map(text).collect();
                Ok(Responses { texts, lengths: None, finished: None, log_ratios: None })
            }
            Origin::Model { source, adapter, tokenizer } => {
                let sampled = self.sampled((source, *adapter), tokenizer, loader, (records, number), watch)?;
                Ok(sampled.into())
            }
        }
    }

    fn sampled(
        &self,
        (source, adapter): (&ModelSource, Option<&Path>),
        tokenizer: &Tokenizer,
        loader: &mut Loader<'_>,
        (records, number): (&mut Records, u64),
        watch: &mut Watch,
    ) -> Result<Part, Failure> {
        let args = loader.args;
        let mut whole = Part { responses: Vec::new(), log_ratios: Some(Vec::new()) };
        let (mut policy, size) = (None, PART.max(BATCHES * args.batch_size as usize));
        for (index, prompts) in self.prompts.chunks(size).enumerate() {
            let evaluator = Evaluator { prompts, tokenizer, generate: generate(args, tokenizer), seed: args.seed };
            let part: Part = records.once(number, &format!("sampled/{index}"), || {
                let policy = match &mut policy {
                    Some(policy) => policy,
                    none => none.insert(loader.policy(source, adapter)?),
                };
                let responses = evaluator.respond(policy, watch)?;
                let start = if number == 0 && evaluator.estimates_kl() { loader.start()? } else { None };
                let log_ratios = match start {
                    Some(start) => Some(log_ratios(&responses, &evaluator.start_logps(start, &responses)?)),
                    None => None,
                };
                Ok::<_, Failure>(Part { responses, log_ratios })
            })?;
            whole.responses.extend(part.responses);
            whole.log_ratios = whole.log_ratios.zip(part.log_ratios).map(|(all, more)| [all, more].concat());
        }
        Ok(whole)
    }
}

fn generate(args: &EvalArgs, tokenizer: &Tokenizer) -> GenerateConfig {
    GenerateConfig {
        max_new_tokens: args.max_new_tokens as usize,
        min_new_tokens: 0,
        batch_size: args.batch_size as usize,
        sampling: args.sampling(),
        eos_ids: tokenizer.eos_ids().to_vec(),
        sampled_vocab: Some(tokenizer.vocab_size()),
    }
}

impl From<Part> for Responses {
    fn from(Part { responses, log_ratios }: Part) -> Self {
        let samples = || responses.iter().flat_map(|drawn| &drawn.samples);
        let ended = samples().filter(|sample| sample.eos).count();
        let lengths: Vec<usize> = samples().map(|sample| sample.tokens.len()).collect();
        Self {
            finished: Some(ended as f64 / lengths.len().max(1) as f64),
            texts: samples().map(|sample| sample.text.clone()).collect(),
            lengths: Some(lengths),
            log_ratios,
        }
    }
}
