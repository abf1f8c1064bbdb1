//! `bpo eval`: how often one policy wins, against reference texts or another policy.
use std::path::{Path, PathBuf};

use bpo_annotate::Annotator;
use bpo_sampler::{GenerateConfig, Sampling};
use bpo_train::{EvalPrompt, Evaluation, Evaluator, Interval, Recipe, bootstrap_mean, eval_prompts, win_rate};
use clap::Args;
use serde_json::{Value, json};

use crate::{annotate, args::Globals, embedded, failure::Failure, out::Out, source::ModelSource, train::watch::Watch};

/// Sample responses to held-out prompts and judge them against references or another policy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpo eval --model embedded --adapter runs/story/adapter
  bpo eval --model DIR --adapter runs/a/adapter --against-adapter runs/b/adapter --references test.jsonl
  bpo eval --model DIR --references test.jsonl --annotator vader_lexicon.txt --json > rows.jsonl")]
pub struct EvalArgs {
    /// Model directory, or `embedded`
    #[arg(long, value_name = "DIR", default_value = embedded::NAME)]
    model: ModelSource,
    /// PEFT adapter of the policy
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Rows with a prompt and a reference text, or `embedded`
    #[arg(long, value_name = "FILE", default_value = embedded::NAME)]
    references: String,
    /// Compare with the model without any adapter
    #[arg(long, conflicts_with = "against_adapter")]
    against_base: bool,
    /// Compare with the model under this adapter
    #[arg(long, value_name = "DIR")]
    against_adapter: Option<PathBuf>,
    /// `lexicon`, a VADER file, `length`, a reward model's folder, or a TOML table
    #[arg(long, default_value = "lexicon")]
    annotator: String,
    /// Prompts at most
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Tokens at most
    #[arg(long, default_value_t = 64)]
    max_new_tokens: usize,
    /// 0 is greedy
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Put plain prompts to the model as a user's message
    #[arg(long)]
    apply_chat_template: bool,
    /// Prompts sampled at once
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Decides every random choice
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// One JSON line per prompt and a last one with the totals
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &EvalArgs, globals: &Globals) -> Result<(), Failure> {
    let device = globals.device()?;
    let mut annotator = annotate::from_flag(&args.annotator, &device)?;
    let rows = match args.references.as_str() {
        embedded::NAME => bpo_data::read_references_from("(embedded references)", embedded::EVAL_PROMPTS)?,
        path => bpo_data::read_references(Path::new(path))?,
    };
    let model_config = args.model.load_config()?;
    let tokenizer = args.model.load_matching_tokenizer(None, model_config.vocab_size)?;
    let room = Recipe { max_new_tokens: args.max_new_tokens, max_prompt_length: usize::MAX, ..Recipe::default() };
    let limits = room.limits(model_config.max_position_embeddings);
    let prompts = eval_prompts(&rows, &tokenizer, &limits, args.size, args.apply_chat_template)?;
    let evaluator = Evaluator {
        prompts: &prompts,
        tokenizer: &tokenizer,
        generate: GenerateConfig {
            max_new_tokens: args.max_new_tokens,
            sampling: Sampling { temperature: args.temperature, ..Sampling::default() },
            eos_ids: tokenizer.eos_ids().to_vec(),
            sampled_vocab: Some(tokenizer.vocab_size()),
        },
        batch: args.batch_size.max(1),
        seed: args.seed,
    };
    let base = args.model.load_decoder(&device)?;
    let adapted = |dir: Option<&Path>| -> Result<bpo_model::Decoder, Failure> {
        match dir {
            Some(dir) => Ok(base.with_adapter(&bpo_model::Adapter::from_dir(dir, &device)?, 0.0)?),
            None => Ok(base.clone()),
        }
    };
    let mut watch = Watch::new(globals.progress(), globals.device_name());
    let policy = adapted(args.adapter.as_deref())?;
    let ours = evaluator.evaluate(&policy, Some(&base), &mut annotator, &mut watch)?;
    let theirs = match (args.against_base, &args.against_adapter) {
        (false, None) => None,
        (_, other) => Some(evaluator.evaluate(&adapted(other.as_deref())?, None, &mut annotator, &mut watch)?),
    };
    watch.finish();
    let wins = match &theirs {
        Some(theirs) => Some(compare(&mut annotator, &prompts, &ours, theirs)?),
        None => None,
    };
    let mut out = Out::new();
    print(args, &prompts, (&ours, theirs.as_ref(), wins.as_deref()), &annotator.name(), &mut out)?;
    out.flush()
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
