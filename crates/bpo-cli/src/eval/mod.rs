//! `bpo eval`: how often one policy wins, against reference texts or another policy.
use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use bpo_annotate::Annotator;
use bpo_data::{ReferenceRow, Tokenizer};
use bpo_model::{Adapter, Decoder, Dtype};
use bpo_sampler::{GenerateConfig, Sampling};
use bpo_train::{EvalPrompt, Evaluation, Evaluator, Interval, Recipe, bootstrap_mean, eval_prompts, win_rate};
use burn::tensor::Device;
use clap::Args;
use serde_json::{Value, json};

use crate::{annotator, args::Globals, embedded, failure::Failure, out::Out, source::ModelSource, train::watch::Watch};

/// How often a policy wins, against reference texts or another policy
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpo eval --model embedded --adapter runs/story/adapter
  bpo eval --model DIR --adapter runs/a/adapter --against-adapter runs/b/adapter --prompts test.jsonl
  bpo eval --model DIR --references test.jsonl --annotator vader_lexicon.txt --json > rows.jsonl")]
pub struct EvalArgs {
    /// Model directory, or `embedded`
    #[arg(long, value_name = "DIR", default_value = embedded::NAME)]
    model: ModelSource,
    /// PEFT adapter of the policy
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// What the weights are kept in: auto (a bfloat16 file as it is, where that loses nothing), float32 or bfloat16
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    dtype: Dtype,
    /// Tokenizer [default: the model's]
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Rows with a prompt and a reference text, or `embedded`; without the texts to compare two policies
    #[arg(long, value_name = "FILE", default_value = embedded::NAME)]
    references: String,
    /// Rows with a prompt; reference texts are used where all have one
    #[arg(long, value_name = "FILE", conflicts_with = "references")]
    prompts: Option<PathBuf>,
    /// Compare with the model without any adapter
    #[arg(long, conflicts_with_all = ["against_adapter", "against_model"])]
    against_base: bool,
    /// Compare with another model, read with its own tokenizer
    #[arg(long, value_name = "DIR")]
    against_model: Option<ModelSource>,
    /// Compare with the model (or that of --against-model) under this adapter
    #[arg(long, value_name = "DIR")]
    against_adapter: Option<PathBuf>,
    /// `lexicon`, a VADER file, `length`, a reward model's folder, the address of an OpenAI-compatible server, a
    /// TOML table or list (docs/annotators.md), or a recipe (FILE.toml) that has one
    #[arg(long, default_value = "lexicon")]
    annotator: String,
    /// Prompts at most
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    size: u32,
    /// Tokens at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    /// Keep the K most probable tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Keep the most probable tokens up to this mass
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Put plain prompts to the model as a user's message
    #[arg(long)]
    apply_chat_template: bool,
    /// Completions decoded together
    #[arg(long, value_name = "B", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Decides every random choice
    #[arg(long, value_name = "S", default_value_t = 42)]
    seed: u64,
    /// One JSON line per prompt and a last one with the totals
    #[arg(long)]
    json: bool,
}

/// A policy with the prompts as it reads them.
struct Side {
    policy: Decoder,
    tokenizer: Tokenizer,
    prompts: Vec<EvalPrompt>,
}

/// Runs the verb.
pub fn run(args: &EvalArgs, globals: &Globals) -> Result<(), Failure> {
    args.sampling().validate()?;
    let device = globals.device()?;
    let mut annotator = annotator::from_flag(&args.annotator, &device)?;
    let rows = rows(args)?;
    let (tokenizer, prompts) = args.read(&args.model, args.tokenizer.as_deref(), &rows)?;
    let base = args.model.load_decoder(&device, args.dtype)?;
    let mut ours = Side { policy: adapted(&base, args.adapter.as_deref(), &device)?, tokenizer, prompts };
    let mut theirs = args.other(&base, &ours, &rows, &device)?;
    if let Some(theirs) = &mut theirs {
        keep_common(&mut ours, theirs);
    }
    if ours.prompts.is_empty() {
        return Err(Failure::input("no prompt is left to evaluate on: none fits the context"));
    }
    let mut watch = Watch::without_handler(globals.progress(), globals.device_name());
    let evaluation = args.evaluator(&ours).evaluate(&ours.policy, Some(&base), &mut annotator, &mut watch)?;
    let other = match &theirs {
        Some(side) => Some(args.evaluator(side).evaluate(&side.policy, None, &mut annotator, &mut watch)?),
        None => None,
    };
    watch.finish();
    let wins = match &other {
        Some(other) => Some(compare(&mut annotator, &ours.prompts, &evaluation, other)?),
        None => None,
    };
    let mut out = Out::new();
    annotator::tell(&annotator, &globals.progress());
    print(args, &ours.prompts, (&evaluation, other.as_ref(), wins.as_deref()), &annotator.name(), &mut out)?;
    out.flush()
}

impl EvalArgs {
    fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, ..Sampling::default() }
    }

    fn compares(&self) -> bool {
        self.against_base || self.against_model.is_some() || self.against_adapter.is_some()
    }

    /// A model's tokenizer, and the prompts of `rows` that fit the model.
    fn read(
        &self,
        model: &ModelSource,
        tokenizer: Option<&Path>,
        rows: &[(ReferenceRow, bool)],
    ) -> Result<(Tokenizer, Vec<EvalPrompt>), Failure> {
        let config = model.load_config()?;
        let tokenizer = model.load_matching_tokenizer(tokenizer, &config)?;
        let max_new_tokens = self.max_new_tokens as usize;
        let room = Recipe { max_new_tokens, max_prompt_length: usize::MAX, ..Recipe::default() };
        let limits = room.limits(config.max_position_embeddings)?;
        let references: Vec<ReferenceRow> = rows.iter().map(|(row, _)| row.clone()).collect();
        let has_text: BTreeMap<usize, bool> = rows.iter().map(|(row, has_text)| (row.line, *has_text)).collect();
        let size = self.size as usize;
        let (mut prompts, _) = eval_prompts(&references, &tokenizer, &limits, size, self.apply_chat_template)?;
        for eval in prompts.iter_mut().filter(|eval| has_text.get(&eval.prompt.id) == Some(&false)) {
            eval.reference = None;
        }
        Ok((tokenizer, prompts))
    }

    /// What the policy is compared with.
    fn other(
        &self,
        base: &Decoder,
        ours: &Side,
        rows: &[(ReferenceRow, bool)],
        device: &Device,
    ) -> Result<Option<Side>, Failure> {
        let adapter = self.against_adapter.as_deref();
        if let Some(model) = &self.against_model {
            let (tokenizer, prompts) = self.read(model, None, rows)?;
            let policy = model.load_with_adapter(adapter, device, self.dtype)?;
            return Ok(Some(Side { policy, tokenizer, prompts }));
        }
        if !self.compares() {
            return Ok(None);
        }
        let (tokenizer, prompts) = (self.model.load_tokenizer_at(self.tokenizer.as_deref())?, ours.prompts.clone());
        Ok(Some(Side { policy: adapted(base, adapter, device)?, tokenizer, prompts }))
    }

    fn evaluator<'a>(&self, side: &'a Side) -> Evaluator<'a> {
        Evaluator {
            prompts: &side.prompts,
            tokenizer: &side.tokenizer,
            generate: GenerateConfig {
                max_new_tokens: self.max_new_tokens as usize,
                min_new_tokens: 0,
                batch_size: self.batch_size as usize,
                sampling: self.sampling(),
                eos_ids: side.tokenizer.eos_ids().to_vec(),
                sampled_vocab: Some(side.tokenizer.vocab_size()),
            },
            seed: self.seed,
        }
    }
}

/// The rows, and whether each has a reference text. Rows that are prompts only will do where two policies
/// are compared.
fn rows(args: &EvalArgs) -> Result<Vec<(ReferenceRow, bool)>, Failure> {
    let prompts = |path: &Path| -> Result<Vec<(ReferenceRow, bool)>, bpo_data::Error> {
        let rows = bpo_data::read_prompts(path)?.into_iter();
        let row = |row: bpo_data::PromptRow| {
            let has_text = row.reference.is_some();
            let text = row.reference.unwrap_or_default();
            (ReferenceRow { line: row.line, prompt: Some(row.prompt), text }, has_text)
        };
        Ok(rows.map(row).collect())
    };
    if let Some(path) = &args.prompts {
        return Ok(prompts(path)?);
    }
    let references = match args.references.as_str() {
        embedded::NAME => bpo_data::read_references_from("(embedded references)", embedded::EVAL_PROMPTS),
        path => bpo_data::read_references(Path::new(path)),
    };
    match references {
        Ok(rows) => Ok(rows.into_iter().map(|row| (row, true)).collect()),
        // If they are no prompts either, the first complaint is the one that matters.
        Err(error) if args.compares() => prompts(Path::new(&args.references)).map_err(|_| error.into()),
        Err(error) => Err(error.into()),
    }
}

fn adapted(base: &Decoder, adapter: Option<&Path>, device: &Device) -> Result<Decoder, Failure> {
    match adapter {
        Some(dir) => Ok(base.with_adapter(&Adapter::from_dir(dir, device)?, 0.0)?),
        None => Ok(base.clone()),
    }
}

/// Leaves the prompts that both can read.
fn keep_common(ours: &mut Side, theirs: &mut Side) {
    let ids = |side: &Side| -> HashSet<usize> { side.prompts.iter().map(|eval| eval.prompt.id).collect() };
    let (a, b) = (ids(ours), ids(theirs));
    for side in [ours, theirs] {
        side.prompts.retain(|eval| a.contains(&eval.prompt.id) && b.contains(&eval.prompt.id));
    }
}

fn compare(
    annotator: &mut dyn Annotator,
    prompts: &[EvalPrompt],
    ours: &Evaluation,
    theirs: &Evaluation,
) -> Result<Vec<Option<f64>>, Failure> {
    let prompts: Vec<&str> = prompts.iter().map(|eval| eval.prompt.text.as_str()).collect();
    let (ours, theirs): (Vec<&str>, Vec<&str>) = (ours.texts().collect(), theirs.texts().collect());
    Ok(win_rate(annotator, &prompts, &ours, &theirs)?)
}

fn print(
    args: &EvalArgs,
    prompts: &[EvalPrompt],
    (ours, theirs, wins): (&Evaluation, Option<&Evaluation>, Option<&[Option<f64>]>),
    annotator: &str,
    out: &mut Out,
) -> Result<(), Failure> {
    let rate = wins.and_then(|wins| bootstrap_mean(&wins.iter().flatten().copied().collect::<Vec<_>>(), args.seed));
    let totals = json!({
        "prompts": prompts.len(),
        "annotator": annotator,
        "score": ours.mean_score(args.seed),
        "reference_win_rate": ours.reference_win_rate(args.seed),
        "against_score": theirs.and_then(|theirs| theirs.mean_score(args.seed)),
        "win_rate": rate,
        "kl": ours.kl,
        "length": ours.mean_length(),
        "distinct": ours.distinct(),
        "contain_eos_token": ours.finished(),
    });
    if !args.json {
        return lines(&totals, out);
    }
    let other: Vec<&str> = theirs.map(|theirs| theirs.texts().collect()).unwrap_or_default();
    for (index, (eval, text)) in prompts.iter().zip(ours.texts()).enumerate() {
        out.json(&json!({
            "prompt": eval.prompt.text,
            "response": text,
            "reference": eval.reference,
            "score": ours.scores.as_ref().and_then(|scores| scores[index]),
            "reference_win": ours.reference_wins.as_ref().and_then(|wins| wins[index]),
            "against": other.get(index),
            "win": wins.and_then(|wins| wins[index]),
        }))?;
    }
    out.json(&json!({"totals": totals}))
}

fn lines(totals: &Value, out: &mut Out) -> Result<(), Failure> {
    for (name, value) in totals.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let text = match serde_json::from_value::<Interval>(value.clone()) {
            Ok(interval) => format!("{:.4}  [{:.4}, {:.4}]", interval.mean, interval.low, interval.high),
            Err(_) => {
                value.as_f64().filter(|v| v.fract() != 0.0).map_or_else(|| value.to_string(), |v| format!("{v:.4}"))
            }
        };
        out.line(&format!("{name:<22}{text}"))?;
    }
    Ok(())
}
