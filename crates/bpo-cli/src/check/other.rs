//! Recipes of causal preference optimisation, of `bpo sft` and of `bpo reward train`.
use std::{path::Path, time::Duration};

use bpo_annotate::AnnotatorConfig;
use bpo_train::{CausalEstimator, CausalRecipe, Plan, RewardRecipe, SftRecipe, Trial};
use serde_json::{Map, Value, json};
use toml::Table;

use super::{
    CheckArgs, effective,
    preference::{annotator_facts, begun, memory, state, time},
    resources,
    sizes::Looked,
};
use crate::{
    args::Globals,
    causal,
    failure::{Failure, warn},
    progress::Progress,
    recipe, reward, sft,
    train::runner::Trainer,
};

/// What a kind of recipe has of its own.
struct Kind<'a> {
    name: &'static str,
    /// Of a run without a recipe.
    folder: &'static str,
    /// The recipe of a run without one.
    default: &'static str,
    annotator: Option<&'a AnnotatorConfig>,
}

/// A recipe with `outcomes`.
pub fn causal(
    args: &CheckArgs,
    table: &Table,
    globals: &Globals,
    progress: &Progress,
) -> Result<Map<String, Value>, Failure> {
    let settings: CausalRecipe = recipe::parse(table, "recipe")?;
    settings.validate()?;
    let default = args.run.default_recipe();
    let kind = Kind { name: "causal", folder: "story-causal", default, annotator: Some(&settings.annotator) };
    let looked = || {
        let source = settings.model.parse().unwrap_or(crate::source::ModelSource::Embedded);
        Looked::at(&source, settings.tokenizer.as_deref(), settings.dtype, &globals.device()?)
    };
    let plan = |looked: &Looked, facts: &mut Map<String, Value>| {
        let (rows, references) = causal::rows(&settings, progress)?;
        facts.insert("texts".into(), rows.len().into());
        let plan = settings.plan(looked.sizes(), &looked.tokenizer, &rows, references.as_ref())?;
        let drawn = match settings.causal_estimator {
            CausalEstimator::Ipw => 0,
            CausalEstimator::Dr => settings.samples_per_prompt,
        };
        let per_step = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * drawn;
        let predicted = if drawn > 0 { plan.training as u64 } else { 0 };
        facts.insert("judged_responses".into(), (predicted + plan.steps * per_step as u64).into());
        Ok(plan)
    };
    facts(args, &settings, kind, (globals, progress), (looked, plan), |inputs, budget| settings.tried(inputs, budget))
}

/// A recipe with `data`.
pub fn sft(
    args: &CheckArgs,
    table: &Table,
    globals: &Globals,
    progress: &Progress,
) -> Result<Map<String, Value>, Failure> {
    let settings: SftRecipe = recipe::parse(table, "recipe")?;
    settings.validate()?;
    let kind = Kind { name: "sft", folder: "sft", default: "", annotator: None };
    let looked = || match &settings.model_config {
        Some(path) => {
            let (config, tokenizer) = sft::new_model(&settings, Path::new(path))?;
            Ok(Looked::at_new(path, config, tokenizer))
        }
        None => {
            let source = sft::source(&settings);
            Looked::at(&source, settings.tokenizer.as_deref(), settings.dtype, &globals.device()?)
        }
    };
    let plan = |looked: &Looked, facts: &mut Map<String, Value>| {
        let rows = sft::rows(&settings, progress)?;
        facts.insert("texts".into(), rows.len().into());
        Ok(settings.plan(looked.sizes(), &looked.tokenizer, &rows)?)
    };
    facts(args, &settings, kind, (globals, progress), (looked, plan), |inputs, budget| settings.tried(inputs, budget))
}

/// A recipe of `bpo reward train`.
pub fn reward(
    args: &CheckArgs,
    table: &Table,
    globals: &Globals,
    progress: &Progress,
) -> Result<Map<String, Value>, Failure> {
    let settings: RewardRecipe = recipe::parse(table, "recipe")?;
    settings.validate()?;
    let kind = Kind { name: "reward", folder: "reward", default: "", annotator: None };
    let looked = || {
        let (source, dir) = reward::source(&settings)?;
        Looked::at_reward_model(&source, dir, settings.tokenizer.as_deref(), settings.dtype, &globals.device()?)
    };
    let plan = |looked: &Looked, facts: &mut Map<String, Value>| {
        let (rows, held_out) = reward::rows(&settings, progress)?;
        facts.insert("pairs".into(), rows.len().into());
        Ok(settings.plan(looked.sizes(), &looked.tokenizer, &rows, held_out.as_ref())?)
    };
    facts(args, &settings, kind, (globals, progress), (looked, plan), |inputs, budget| settings.tried(inputs, budget))
}

/// What is known about the run: by its model's configuration and its rows, and by trying its first steps.
fn facts<T: Trainer>(
    args: &CheckArgs,
    settings: &T,
    kind: Kind<'_>,
    (globals, progress): (&Globals, &Progress),
    (looked, plan): (
        impl FnOnce() -> Result<Looked, Failure>,
        impl FnOnce(&Looked, &mut Map<String, Value>) -> Result<Plan, Failure>,
    ),
    tried: impl FnOnce(T::Inputs, Duration) -> Result<Trial, bpo_train::Error>,
) -> Result<Map<String, Value>, Failure> {
    let device = globals.device()?;
    let folder = args.run.folder(kind.folder);
    let start = begun(&folder, settings)?;
    let mut facts = Map::new();
    facts.insert("kind".into(), kind.name.into());
    facts.insert("run_dir".into(), folder.display().to_string().into());
    facts.insert("run".into(), state(start.as_ref()).into());
    let looked = looked()?;
    facts.insert("model".into(), looked.facts());
    let Plan { training, held_out, longest, steps, notes, footprint } = plan(&looked, &mut facts)?;
    facts
        .insert("data".into(), json!({"training": training, "held_out": held_out, "longest": longest, "notes": notes}));
    facts.insert("steps".into(), steps.into());
    facts.insert("memory".into(), memory(&footprint));
    if let Some(annotator) = kind.annotator {
        facts.insert("annotator".into(), annotator_facts(args, annotator, &device)?);
    }
    if let Some(start) = &start {
        start.compare(&settings.identity(globals)?)?;
    }
    if resources::fits(footprint.peak()) && !args.quick {
        progress.say("loading the model and trying its first steps; --quick does without");
        let Trial { trainable, pace } = tried(settings.inputs(&device, &Progress::Quiet)?, args.budget())?;
        facts.insert("trainable_parameters".into(), trainable.into());
        facts.insert("time".into(), time(&pace));
    } else if !args.quick {
        warn(resources::TOO_LARGE);
    }
    facts.insert("settings".into(), effective::keys(settings, &args.run, kind.default)?);
    Ok(facts)
}
