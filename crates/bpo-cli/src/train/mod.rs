//! `bpo train`: online preference optimisation from a recipe.
mod summary;
pub mod watch;

use std::path::{Path, PathBuf};

use bpo_model::Adapter;
use bpo_store::RunDir;
use bpo_train::{Inputs, Outcome, Recipe};
use clap::Args;
use serde::Serialize;

use crate::{
    annotate,
    args::Globals,
    embedded,
    failure::{Failure, Kind},
    out::Out,
    recipe,
    source::{ModelSource, check_vocabulary},
};

/// The recipe of a run without one.
const DEFAULT: &str = include_str!("../../../../recipes/story.toml");

/// Online preference optimisation: sample pairs, let the annotator choose, step, refresh.
///
/// Without a recipe, the story model inside the program learns to tell happier stories. The same command
/// continues an interrupted run; a finished one is left alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpo train
  bpo train --recipe recipes/smollm2-helpful.toml --set model=./SmolLM2-135M-Instruct
  bpo train --run-dir runs/dpo --set reference=initial --set loss_type=ipo")]
pub struct TrainArgs {
    /// Recipe file (TOML)
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Folder of the run [default: runs/NAME, by the recipe's name]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Change a key of the recipe
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// Runs the verb.
pub fn run(args: &TrainArgs, globals: &Globals) -> Result<(), Failure> {
    let table = recipe::load(DEFAULT, args.recipe.as_deref(), &args.sets)?;
    let recipe: Recipe = recipe::parse(&table, "recipe")?;
    recipe.validate()?;
    let device = globals.device()?;
    let folder = run_folder(args.run_dir.as_deref(), args.recipe.as_deref(), "story");
    let dir = open_run(&folder, &recipe)?;
    let mut out = Out::new();
    if dir.is_finished() {
        out.line(&format!("{} is finished: nothing to do. Another --run-dir starts anew.", folder.display()))?;
        return out.flush();
    }
    let progress = globals.progress();
    progress.say(&format!("run: {}", folder.display()));
    let inputs = inputs(&recipe, &device)?;
    let mut watch = watch::Watch::new(progress, globals.device_name());
    match bpo_train::run(&recipe, inputs, &dir, &mut watch)? {
        Outcome::Finished(report) => {
            watch.finish();
            summary::print(&report, &folder, &recipe, &mut out)?;
            out.flush()
        }
        Outcome::Interrupted(step) => {
            watch.finish();
            Err(Failure::message(Kind::Interrupted, format!("interrupted after step {step}; the same command goes on")))
        }
    }
}

/// `--run-dir`, or `runs/NAME`.
pub fn run_folder(given: Option<&Path>, recipe: Option<&Path>, default: &str) -> PathBuf {
    let name = || recipe.and_then(Path::file_stem).map_or_else(|| default.into(), |stem| stem.to_owned());
    given.map_or_else(|| Path::new("runs").join(name()), Path::to_path_buf)
}

/// Takes the folder of a run; one that was started with other settings is refused, key by key.
pub fn open_run<R: Serialize>(folder: &Path, recipe: &R) -> Result<RunDir, Failure> {
    let text = toml::to_string(recipe).map_err(|error| Failure::new(Kind::Internal, error))?;
    let dir = RunDir::open(folder)?;
    match dir.read("recipe.toml")? {
        Some(bytes) => {
            let differences = differences(&String::from_utf8_lossy(&bytes), &text);
            if !differences.is_empty() {
                return Err(bpo_train::Error::RecipeChanged { path: folder.to_path_buf(), differences }.into());
            }
        }
        None => dir.write("recipe.toml", text.as_bytes())?,
    }
    Ok(dir)
}

/// One line per key that two recipes disagree on.
fn differences(old: &str, new: &str) -> Vec<String> {
    let table = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
    let (old, new) = (table(old), table(new));
    let show = |value: Option<&toml::Value>| value.map_or_else(|| "(not set)".to_string(), ToString::to_string);
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| format!("  {key}: {} there, {} now", show(old.get(key)), show(new.get(key))))
        .collect()
}

fn inputs(recipe: &Recipe, device: &burn::tensor::Device) -> Result<Inputs, Failure> {
    // Cheap things first: what is wrong with them should not cost the loading of a model.
    let annotator = annotate::build(&recipe.annotator, device)?;
    let prompts = match recipe.prompts.as_str() {
        embedded::NAME => bpo_data::read_prompts_from("(embedded prompts)", embedded::PROMPTS)?,
        path => bpo_data::read_prompts(Path::new(path))?,
    };
    let references = match recipe.references.as_deref() {
        None => None,
        Some(embedded::NAME) => Some(bpo_data::read_references_from("(embedded references)", embedded::EVAL_PROMPTS)?),
        Some(path) => Some(bpo_data::read_references(Path::new(path))?),
    };
    let source: ModelSource = recipe.model.parse().unwrap_or(ModelSource::Embedded);
    let vocab = source.load_config()?.vocab_size;
    let tokenizer = source.load_matching_tokenizer(recipe.tokenizer.as_deref().map(Path::new), vocab)?;
    check_vocabulary(&tokenizer, &source.to_string(), vocab)?;
    let base = source.load_decoder(device)?;
    let adapter = match &recipe.adapter {
        Some(dir) => Some(Adapter::from_dir(Path::new(dir), device)?),
        None => None,
    };
    Ok(Inputs {
        base,
        base_name: source.base_name(),
        adapter,
        tokenizer,
        prompts,
        references,
        annotator,
        companions: companions(&source)?,
    })
}

/// Tokenizer files for an exported model.
pub fn companions(source: &ModelSource) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    Ok(source.companions()?.into_iter().map(|(name, bytes)| (name.to_string(), bytes)).collect())
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
            E::Store(error) => error.into(),
            E::Recipe(_) | E::RecipeChanged { .. } => Self::new(Kind::Usage, error),
            E::NonFinite { .. } => Self::new(Kind::Numerics, error),
            _ => Self::new(Kind::Input, error),
        }
    }
}
