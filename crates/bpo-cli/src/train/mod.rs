//! `bpo train`: online preference optimisation from a recipe.
mod events;
mod live;
pub mod runner;
pub mod start;
pub mod summary;
pub mod watch;

use std::path::{Path, PathBuf};

use bpo_model::Adapter;
use bpo_store::RunDir;
use bpo_train::{Inputs, Outcome, Recipe, Report, TrainRows};
use burn::tensor::Device;
use clap::Args;

use self::{runner::Trainer, start::Identity, watch::Watch};
use crate::{
    annotator,
    args::Globals,
    causal, data, embedded,
    failure::{Failure, Kind},
    out::Out,
    progress::Progress,
    recipe, sampler,
    source::{ModelSource, companions},
};

/// The recipe of a run without one.
const DEFAULT: &str = include_str!("../../recipes/story.toml");

/// Online preference optimisation: sample pairs, judge, step, refresh
///
/// Without a recipe, the story model inside the program learns to tell happier stories. The same command
/// continues an interrupted run; a finished one is left alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpo train
  bpo train recipes/smollm2-helpful.toml --set model=./SmolLM2-135M-Instruct
  bpo train --set outcomes=texts-with-outcomes.jsonl --set causal_estimator=dr
  bpo train --run-dir runs/dpo --set reference=initial --set loss_type=ipo")]
pub struct TrainArgs {
    /// Which run, with which settings.
    #[command(flatten)]
    run: RunArgs,
}

/// Flags of every verb that runs a recipe.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Recipe file (TOML or YAML)
    #[arg(value_name = "RECIPE")]
    file: Option<PathBuf>,
    /// The same, by name
    #[arg(long = "recipe", value_name = "FILE", conflicts_with = "file")]
    named: Option<PathBuf>,
    /// Folder of the run [default: runs/NAME, by the recipe's name]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// What frozen weights are kept in, as `--set dtype=DTYPE`: auto, float32 or bfloat16
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
    /// What happens to rows that cannot be read, as `--set bad_lines=WHAT`: stop, or skip (and count; at most 1 %)
    #[arg(long, value_name = "WHAT")]
    bad_lines: Option<String>,
    /// Change a key of the recipe, as in `--set learning_rate=1e-4` or `--set annotator.kind=length`
    ///
    /// docs/recipe.md lists the keys. Paths are relative to the working directory (those in a recipe file to
    /// the file's folder). An empty value takes the key out.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

impl RunArgs {
    /// What the command line changes in the recipe.
    pub fn sets(&self) -> Vec<String> {
        let flags = [("dtype", &self.dtype), ("bad_lines", &self.bad_lines)].into_iter();
        let flags = flags.filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
        self.sets.iter().cloned().chain(flags).collect()
    }

    /// The recipe file, where one was given.
    pub fn recipe(&self) -> Option<&Path> {
        self.file.as_deref().or(self.named.as_deref())
    }

    /// What stands in for a recipe file.
    pub fn default_recipe(&self) -> &'static str {
        if sets_key(&self.sets(), causal::KEY) { causal::DEFAULT } else { DEFAULT }
    }

    /// `--run-dir`, or `runs/NAME`, `default` being the name of a run without a recipe.
    pub fn folder(&self, default: &str) -> PathBuf {
        let name = self.recipe().and_then(Path::file_stem).map_or_else(|| default.into(), ToOwned::to_owned);
        self.run_dir.clone().unwrap_or_else(|| Path::new("runs").join(name))
    }
}

/// Runs the verb.
pub fn run(args: &TrainArgs, globals: &Globals) -> Result<(), Failure> {
    let progress = globals.progress();
    let args = &args.run;
    let table = table(args, &progress)?;
    if table.contains_key(causal::KEY) {
        return causal::run(args, table, globals);
    }
    let recipe: Recipe = recipe::parse(&table, "recipe")?;
    runner::run(&recipe, &args.folder("story"), globals, progress)
}

impl Trainer for Recipe {
    type Inputs = Inputs;
    type Report = Report;

    fn validate(&self) -> Result<(), bpo_train::Error> {
        self.validate()
    }

    fn inputs(&self, device: &Device, progress: &Progress) -> Result<Inputs, Failure> {
        inputs(self, device, progress)
    }

    fn identity(&self, globals: &Globals) -> Result<Identity, Failure> {
        identity(self, globals)
    }

    fn train(&self, inputs: Inputs, dir: &RunDir, watch: &mut Watch) -> Result<Outcome, bpo_train::Error> {
        bpo_train::run(self, inputs, dir, watch)
    }

    fn tell(&self, report: &Report, folder: &Path, out: &mut Out) -> Result<(), Failure> {
        summary::print(report, folder, self, out)
    }
}

/// The recipe of a run, with what the command line changes in it.
pub fn table(args: &RunArgs, progress: &Progress) -> Result<toml::Table, Failure> {
    let sets = args.sets();
    let default = args.default_recipe();
    let mut table = recipe::load(default, args.recipe(), &sets)?;
    let data = if table.contains_key(causal::KEY) { causal::KEY } else { "prompts" };
    if args.recipe().is_none() && drop_foreign_references(&mut table, &sets, data) {
        progress
            .say(&format!("note: the built-in references belong to the built-in model and {data}, and are left out"));
    }
    Ok(table)
}

/// Takes the built-in references out of a table that has another model or other `data` (a key), and references
/// that nobody asked for.
pub fn drop_foreign_references(table: &mut toml::Table, sets: &[String], data: &str) -> bool {
    let is_embedded =
        |table: &toml::Table, key: &str| table.get(key).and_then(toml::Value::as_str) == Some(embedded::NAME);
    let foreign = !(is_embedded(table, "model") && is_embedded(table, data));
    let drops = foreign && !sets_key(sets, "references") && is_embedded(table, "references");
    if drops {
        table.remove("references");
    }
    drops
}

/// Whether one of `sets` is about `key`.
fn sets_key(sets: &[String], key: &str) -> bool {
    sets.iter().any(|set| set.split('=').next().is_some_and(|name| name.trim() == key))
}

/// What the run reads.
fn identity(recipe: &Recipe, globals: &Globals) -> Result<Identity, Failure> {
    let source: ModelSource = recipe.model.parse().unwrap_or(ModelSource::Embedded);
    let mut identity = Identity::on(globals.device_name());
    match &recipe.pairs {
        Some(pairs) => identity.data("pairs", pairs, embedded::PAIRS)?,
        None => identity.data("prompts", &recipe.prompts, embedded::PROMPTS)?,
    }
    if let Some(references) = &recipe.references {
        identity.data("references", references, embedded::EVAL_PROMPTS)?;
    }
    identity.model(&source)?;
    identity.tokenizer(&source, recipe.tokenizer.as_deref().map(Path::new))?;
    for (index, adapter) in recipe.adapters().iter().enumerate() {
        identity.adapter(index, Path::new(adapter))?;
    }
    identity.annotator(&recipe.annotator)?;
    Ok(identity)
}

/// Preference pairs where there are such, else prompts.
pub fn rows(recipe: &Recipe, progress: &Progress) -> Result<TrainRows, Failure> {
    let bad_lines = recipe.bad_lines;
    Ok(match recipe.pairs.as_deref() {
        None => {
            let built_in = ("(embedded prompts)", embedded::PROMPTS);
            TrainRows::Prompts(data::rows(&recipe.prompts, built_in, bad_lines, progress)?)
        }
        Some(path) => TrainRows::Pairs(data::rows(path, ("(embedded pairs)", embedded::PAIRS), bad_lines, progress)?),
    })
}

/// What the run works on, read and ready.
fn inputs(recipe: &Recipe, device: &Device, progress: &Progress) -> Result<Inputs, Failure> {
    // Cheap things first: what is wrong with them should not cost the loading of a model.
    let annotator = annotator::build(&recipe.annotator, device)?;
    let rows = rows(recipe, progress)?;
    let references = data::references(recipe.references.as_deref(), recipe.bad_lines, progress)?;
    let source: ModelSource = recipe.model.parse().unwrap_or(ModelSource::Embedded);
    let own_tokenizer = recipe.tokenizer.as_deref().map(Path::new);
    let tokenizer = source.load_matching_tokenizer(own_tokenizer, &source.load_config()?)?;
    let sampler = recipe.sampler.as_ref().map(|config| sampler::build(config, &source)).transpose()?;
    let base = source.load_decoder(device, recipe.dtype)?;
    let adapters: Result<Vec<Adapter>, _> =
        recipe.adapters().iter().map(|dir| Adapter::from_dir(Path::new(dir), device)).collect();
    Ok(Inputs {
        base,
        base_name: source.base_name(),
        adapters: adapters?,
        tokenizer,
        rows,
        references,
        annotator,
        sampler,
        companions: companions(&source, own_tokenizer)?,
    })
}

impl From<bpo_train::Error> for Failure {
    fn from(error: bpo_train::Error) -> Self {
        use bpo_train::Error as E;
        match error {
            E::Model(error) => error.into(),
            E::Loss(error) => error.into(),
            E::Sampler(error) => error.into(),
            E::Rows(error) => error.into(),
            E::Annotator(error) => error.into(),
            E::Service(error) => error.into(),
            E::Store(error) => error.into(),
            E::Recipe(_) | E::RecipeChanged { .. } => Self::new(Kind::Usage, error),
            E::JournalEnds { .. } => Self::new(Kind::Run, error),
            E::NonFinite { .. } => Self::new(Kind::Numerics, error),
            E::Abstentions { .. } | E::Gap { .. } => Self::new(Kind::Annotator, error),
            E::Interrupted => Self::new(Kind::Interrupted, error),
            _ => Self::new(Kind::Input, error),
        }
    }
}
