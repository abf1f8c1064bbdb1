//! Recipes of `bpo train` on prompts or pairs.
use std::{collections::HashSet, path::Path};

use bpo_annotate::{Annotator, AnnotatorConfig, Comparison, Verdict};
use bpo_store::RowFile;
use bpo_train::{Body, Footprint, Load, Pace, Prepared, Recipe, Rehearsal, Silent, Sizes};
use burn::tensor::Device;
use serde_json::{Map, Value, json};
use toml::Table;

use super::{CheckArgs, effective, resources, sizes::Looked};
use crate::{
    annotator,
    args::Globals,
    data,
    failure::{Failure, Kind, warn},
    progress::Progress,
    recipe,
    source::ModelSource,
    train::{self, runner::Trainer, start::Start},
};

/// What is known about the run.
pub fn facts(
    args: &CheckArgs,
    table: Table,
    globals: &Globals,
    progress: &Progress,
) -> Result<Map<String, Value>, Failure> {
    let settings: Recipe = recipe::parse(&table, "recipe")?;
    settings.validate()?;
    let device = globals.device()?;
    let folder = args.run.folder("story");
    let mut facts = Map::new();
    facts.insert("kind".into(), "preference".into());
    facts.insert("run_dir".into(), folder.display().to_string().into());
    let start = begun(&folder, &settings)?;
    facts.insert("run".into(), state(start.as_ref()).into());
    let footprint = footprint(&settings, &device, progress, &mut facts)?;
    facts.insert("annotator".into(), annotator_facts(args, &settings.annotator, &device)?);
    if let Some(start) = &start {
        start.compare(&settings.identity(globals)?)?;
    }
    let fits = resources::fits(footprint.peak());
    if !args.quick && fits {
        progress.say("loading the model and measuring its first step; --quick does without");
        let rehearsal = Rehearsal::new(&settings, settings.inputs(&device, &Progress::Quiet)?)?;
        facts.insert("procedure".into(), json!(rehearsal.lines()));
        facts.insert("trainable_parameters".into(), rehearsal.trainable().into());
        facts.insert("time".into(), time(&rehearsal.pace(args.budget())?));
    } else if !fits {
        warn(resources::TOO_LARGE);
    }
    facts.insert("settings".into(), effective::keys(&settings, &args.run, args.run.default_recipe())?);
    Ok(facts)
}

/// The folder's run, where there is one already.
pub fn begun<R: serde::Serialize>(folder: &Path, recipe: &R) -> Result<Option<Start>, Failure> {
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() && !folder.join("recipe.toml").exists() => Ok(None),
        Ok(_) => Start::open(folder, recipe).map(Some),
        Err(_) => Ok(None),
    }
}

/// In words.
pub fn state(start: Option<&Start>) -> &'static str {
    match start {
        None => "new",
        Some(start) if start.dir.is_finished() => "finished: it would be left alone",
        Some(_) => "begun: it would be continued",
    }
}

/// Reads the data and computes sizes; the weights are not read.
fn footprint(
    settings: &Recipe,
    device: &Device,
    progress: &Progress,
    facts: &mut Map<String, Value>,
) -> Result<Footprint, Failure> {
    let source: ModelSource = settings.model.parse().unwrap_or(ModelSource::Embedded);
    let looked = Looked::at(&source, settings.tokenizer.as_deref(), settings.dtype, device)?;
    let Sizes { body: Body::Decoder(config), parameters, weight_bytes } = looked.sizes() else {
        return Err(Failure::input(format!("{source} is no language model")));
    };
    let rows = train::rows(settings, progress)?;
    let references = data::references(settings.references.as_deref(), settings.bad_lines, progress)?;
    let (context, train) = (config.max_position_embeddings, RowFile::temporary());
    let tokenizer = &looked.tokenizer;
    let prepared = bpo_train::prepare(settings, tokenizer, context, rows, references.as_ref(), train, &mut Silent)?;
    let lengths = Lengths::of(&prepared)?;
    let load = load(settings, &lengths, weight_bytes);
    let footprint = Footprint::of(settings, config, parameters, load);
    let steps = settings.steps(prepared.train.len());
    facts.insert("model".into(), looked.facts());
    facts.insert("data".into(), rows_facts(&prepared, &lengths));
    facts.insert("steps".into(), steps.into());
    facts.insert("reference".into(), settings.reference_in_words(steps).into());
    facts.insert("judged_responses".into(), judged(settings, steps).into());
    facts.insert("memory".into(), memory(&footprint));
    Ok(footprint)
}

/// Of what is trained on.
#[derive(Default)]
struct Lengths {
    /// Tokens of each prompt.
    prompts: Vec<usize>,
    /// Tokens of each completion given with one.
    given: Vec<usize>,
    /// Prompts of different texts.
    different: usize,
}

impl Lengths {
    fn of(prepared: &Prepared) -> Result<Self, Failure> {
        let (mut lengths, mut texts) = (Self::default(), HashSet::new());
        for prompt in prepared.train.iter() {
            let prompt = prompt?;
            lengths.prompts.push(prompt.ids.len());
            lengths.given.extend(prompt.given.iter().map(|sample| sample.tokens.len()));
            texts.insert(blake3::hash(prompt.text.as_bytes()));
        }
        Ok(Self { different: texts.len(), ..lengths })
    }
}

fn load(settings: &Recipe, lengths: &Lengths, weight_bytes: usize) -> Load {
    let completion = if settings.pairs.is_some() { mean(&lengths.given) } else { settings.max_new_tokens };
    Load { prompt: mean(&lengths.prompts), completion, weight_bytes }
}

/// A batch's length is nearer to the mean of its rows than to the longest.
fn mean(lengths: &[usize]) -> usize {
    lengths.iter().sum::<usize>().div_ceil(lengths.len().max(1))
}

fn judged(settings: &Recipe, steps: u64) -> u64 {
    steps * (settings.prompts_per_step() * settings.judged_per_prompt()) as u64
}

fn rows_facts(prepared: &Prepared, lengths: &Lengths) -> Value {
    json!({
        "training": prepared.train.len(),
        "held_out": prepared.eval.len(),
        "duplicates": prepared.train.len() - lengths.different,
        "longest_prompt": lengths.prompts.iter().max(),
        "notes": prepared.notes,
    })
}

pub fn memory(footprint: &Footprint) -> Value {
    let mut facts = json!(footprint);
    facts["peak"] = footprint.peak().into();
    if let Some((total, free)) = resources::memory() {
        (facts["machine"], facts["free"]) = (total.into(), free.into());
    }
    facts
}

pub fn time(pace: &Pace) -> Value {
    json!({
        "total_s": pace.total(),
        "once_s": pace.once,
        "step_s": pace.sample + pace.train,
        "sample_s": pace.sample,
        "train_s": pace.train,
        "evaluation_s": pace.evaluate,
        "evaluations": pace.evaluations,
        "completion_tokens": pace.length,
        "tokens_per_step": pace.tokens,
        "sampling_measured": pace.sampled,
    })
}

pub fn annotator_facts(args: &CheckArgs, config: &AnnotatorConfig, device: &Device) -> Result<Value, Failure> {
    let mut annotator = annotator::build(config, device)?;
    let answered = if args.ask { Some(ask(&mut annotator)?) } else { None };
    Ok(json!({"name": annotator.name(), "asked": answered}))
}

/// One question with an obvious answer; the verdict in words.
fn ask(annotator: &mut impl Annotator) -> Result<String, Failure> {
    let question = Comparison {
        prompt: "How was your day?".into(),
        first: "It was wonderful, thank you for asking! How was yours?".into(),
        second: "Bad.".into(),
    };
    let judged = annotator.compare(&[question])?;
    match judged.first().map(|judged| &judged.verdict) {
        Some(Verdict::First) => Ok("prefers the first of two".into()),
        Some(Verdict::Second) => Ok("prefers the second of two".into()),
        Some(Verdict::Tie) => Ok("a tie".into()),
        Some(Verdict::Abstain(reason)) => {
            Err(Failure::message(Kind::Annotator, format!("the annotator gave no verdict: {reason}")))
        }
        None => Err(Failure::message(Kind::Annotator, "the annotator gave no answer")),
    }
}
