//! Recipes of causal preference optimisation and of `bpo sft`: what they read is read; time and memory are not estimated.
use bpo_train::{CausalRecipe, SftRecipe};
use serde_json::{Map, Value, json};
use toml::Table;

use super::{CheckArgs, effective, preference};
use crate::{
    args::Globals,
    failure::{Failure, warn},
    progress::Progress,
    recipe,
    train::runner::Trainer,
};

/// A recipe with `outcomes`.
pub fn causal(
    args: &CheckArgs,
    table: Table,
    globals: &Globals,
    progress: &Progress,
) -> Result<Map<String, Value>, Failure> {
    let settings: CausalRecipe = recipe::parse(&table, "recipe")?;
    settings.validate()?;
    let device = globals.device()?;
    let folder = args.run.folder("story-causal");
    let start = preference::begun(&folder, &settings)?;
    let inputs = settings.inputs(&device, progress)?;
    if let Some(start) = &start {
        start.compare(&settings.identity(globals)?)?;
    }
    unmeasured();
    let facts = json!({
        "kind": "causal",
        "run_dir": folder.display().to_string(),
        "run": preference::state(start.as_ref()),
        "texts": inputs.rows.len(),
        "settings": effective::keys(&settings, &args.run, args.run.default_recipe())?,
    });
    Ok(facts.as_object().cloned().unwrap_or_default())
}

/// A recipe with `data`.
pub fn sft(args: &CheckArgs, globals: &Globals, progress: &Progress) -> Result<Map<String, Value>, Failure> {
    let table = recipe::load("", args.run.recipe(), &args.run.sets())?;
    let settings: SftRecipe = recipe::parse(&table, "recipe")?;
    settings.validate()?;
    let device = globals.device()?;
    let folder = args.run.folder("sft");
    let start = preference::begun(&folder, &settings)?;
    let inputs = settings.inputs(&device, progress)?;
    if let Some(start) = &start {
        start.compare(&settings.identity(globals)?)?;
    }
    unmeasured();
    let facts = json!({
        "kind": "sft",
        "run_dir": folder.display().to_string(),
        "run": preference::state(start.as_ref()),
        "texts": inputs.rows.len(),
        "settings": effective::keys(&settings, &args.run, "")?,
    });
    Ok(facts.as_object().cloned().unwrap_or_default())
}

fn unmeasured() {
    warn("memory and time are estimated for preference runs only");
}
