//! `bpo check`: everything that a run would refuse, and what it would do, without the run.
mod effective;
mod other;
mod preference;
mod print;
mod resources;
mod sizes;

use std::time::Duration;

pub use resources::{memory, size};
pub use sizes::Looked;

use clap::Args;
use serde_json::{Map, Value};

use crate::{
    args::Globals,
    causal,
    failure::Failure,
    out::Out,
    recipe, reward, sft,
    train::{self, RunArgs},
};

/// Say what a recipe would do, and what is wrong with it, without training
///
/// Everything that `bpo train` (`bpo sft` for a recipe with `data`, `bpo reward train` for one with `tuning`) would refuse is
/// refused with the same message and exit code. Otherwise it says what is trained on and what is left out, which policy is
/// the reference when, how much memory and time that takes here, and what every key is set to. Nothing is written, and no
/// annotator is asked.
#[derive(Debug, Args)]
#[command(after_help = "\
Memory is computed from the sizes of model and batches; time is measured on the first step's own prompts, for as long as
--budget says. Both are estimates: docs/recipe.md says how far off they were.

Examples:
  bpo check
  bpo check recipes/story.toml --set learning_rate=1e-4
  bpo check sft.toml --set per_device_train_batch_size=4
  bpo check bpo.toml --quick --json
  bpo check bpo.toml --ask")]
pub struct CheckArgs {
    /// Which run, with which settings.
    #[command(flatten)]
    run: RunArgs,
    /// Do not load the model: weights are not looked at, and there is no estimate of time
    #[arg(long)]
    quick: bool,
    /// Ask the annotator one question, to see that it answers
    #[arg(long)]
    ask: bool,
    /// About how long each of sampling and training is measured, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds, conflicts_with = "quick")]
    budget: f64,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("give a number of seconds, above 0 and at most 3600".to_owned()),
    }
}

impl CheckArgs {
    fn budget(&self) -> Duration {
        Duration::from_secs_f64(self.budget)
    }
}

/// Checks and prints.
pub fn run(args: &CheckArgs, globals: &Globals) -> Result<(), Failure> {
    let progress = globals.progress();
    let given = recipe::load("", args.run.recipe(), &args.run.sets())?;
    if ["base", "grid", "method", "recipe"].iter().any(|key| given.contains_key(*key)) {
        return Err(Failure::usage(
            "this is a grid of `bpo compare`, not a recipe: `bpo compare GRID --plan` checks it and lists its cells",
        ));
    }
    let facts: Map<String, Value> = if given.contains_key(sft::KEY) {
        other::sft(args, &given, globals, &progress)?
    } else if reward::is_for(&given) {
        other::reward(args, &given, globals, &progress)?
    } else {
        let table = train::table(&args.run, &progress)?;
        match table.contains_key(causal::KEY) {
            true => other::causal(args, &table, globals, &progress)?,
            false => preference::facts(args, table, globals, &progress)?,
        }
    };
    let mut out = Out::new();
    if args.json {
        out.json(&Value::Object(facts))?;
    } else {
        print::print(&mut out, &facts)?;
    }
    out.flush()
}
