//! `bpo reward`: reward models, from preference pairs.
use std::path::{Path, PathBuf};

use bpo_data::{PreferenceRow, Rows};
use bpo_model::SequenceClassifier;
use bpo_store::RunDir;
use bpo_train::{Outcome, RewardEvaluation, RewardInputs, RewardRecipe, RewardReport};
use burn::tensor::Device;
use clap::{Args, Subcommand};

use crate::{
    args::Globals,
    data, embedded,
    failure::Failure,
    out::Out,
    progress::Progress,
    recipe,
    source::{ModelSource, check_dir, companions},
    train::{
        RunArgs,
        runner::{self, Trainer},
        start::Identity,
        watch::Watch,
    },
};

/// Reward models: what says how good a response is
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bpo reward train recipes/reward-hh-harmless.toml --set model=DIR --set pairs=hh-harmless.jsonl.gz")]
pub struct RewardArgs {
    /// What to do.
    #[command(subcommand)]
    verb: RewardVerb,
}

#[derive(Debug, Subcommand)]
enum RewardVerb {
    Train(RewardTrainArgs),
}

/// Fit a reward model to preference pairs
///
/// The model is an encoder, a decoder or a reward model that is there already; the result is a Hugging Face directory that
/// `annotator = "DIR"` and transformers' AutoModelForSequenceClassification load. The same command continues an interrupted
/// run; a finished one is left alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpo reward train --set model=./all-MiniLM-L6-v2 --set pairs=pairs.jsonl --set tuning=full
  bpo reward train recipes/reward-hh-harmless.toml --set model=DIR --set pairs=hh-harmless.jsonl.gz
  bpo train --set annotator=runs/reward-hh-harmless/model")]
pub struct RewardTrainArgs {
    /// Which run, with which settings.
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the verb.
pub fn run(args: &RewardArgs, globals: &Globals) -> Result<(), Failure> {
    let RewardVerb::Train(args) = &args.verb;
    let args = &args.run;
    let table = recipe::load("", args.recipe(), &args.sets())?;
    let recipe: RewardRecipe = recipe::parse(&table, "recipe")?;
    runner::run(&recipe, &args.folder("reward"), globals, globals.progress())
}

impl Trainer for RewardRecipe {
    type Inputs = RewardInputs;
    type Report = RewardReport;

    fn validate(&self) -> Result<(), bpo_train::Error> {
        self.validate()
    }

    fn inputs(&self, device: &Device, progress: &Progress) -> Result<RewardInputs, Failure> {
        inputs(self, device, progress)
    }

    fn identity(&self, globals: &Globals) -> Result<Identity, Failure> {
        identity(self, globals)
    }

    fn train(
        &self,
        inputs: RewardInputs,
        dir: &RunDir,
        watch: &mut Watch,
    ) -> Result<Outcome<RewardReport>, bpo_train::Error> {
        bpo_train::reward(self, inputs, dir, watch)
    }

    fn tell(&self, report: &RewardReport, folder: &Path, out: &mut Out) -> Result<(), Failure> {
        let RewardReport { steps, evaluation, output } = report;
        out.line(&format!("{steps} steps"))?;
        if let Some(evaluation) = evaluation {
            told(evaluation, out)?;
        }
        out.line(&format!("{output}: {}", folder.join(output).display()))
    }
}

fn told(evaluation: &RewardEvaluation, out: &mut Out) -> Result<(), Failure> {
    let RewardEvaluation { pairs, accuracy, loss, ece, margin, chosen, rejected, .. } = evaluation;
    let [mean, low, high] = [accuracy.mean, accuracy.low, accuracy.high].map(|share| 100.0 * share);
    out.line(&format!(
        "held out: {pairs} pairs, {mean:.1} % in order (95 % interval {low:.1} to {high:.1} %), loss {loss:.4} nats"
    ))?;
    out.line(&format!("scores: {chosen:.3} chosen, {rejected:.3} rejected, margin {margin:.3}"))?;
    out.line(&format!("calibration error {ece:.3}; confidence and accuracy by confidence:"))?;
    for bin in &evaluation.bins {
        let (confidence, accuracy) = (100.0 * bin.confidence, 100.0 * bin.accuracy);
        out.line(&format!("  from {:.1}: {} pairs, {confidence:.1} % and {accuracy:.1} %", bin.from, bin.pairs))?;
    }
    Ok(())
}

/// What the run reads.
fn identity(recipe: &RewardRecipe, globals: &Globals) -> Result<Identity, Failure> {
    let source = ModelSource::Dir(PathBuf::from(&recipe.model));
    let mut identity = Identity::on(globals.device_name());
    identity.data("pairs", &recipe.pairs, embedded::PAIRS)?;
    if let Some(path) = &recipe.eval_pairs {
        identity.file("eval_pairs", Path::new(path))?;
    }
    identity.model(&source)?;
    identity.tokenizer(&source, recipe.tokenizer.as_deref().map(Path::new))?;
    Ok(identity)
}

/// Whether a table is a recipe of this kind, which shares `pairs` with preference runs.
pub fn is_for(table: &toml::Table) -> bool {
    let has = |key: &str| table.contains_key(key);
    has("tuning") || has("pairs") && (has("eval_pairs") || has("eval_share") || has("center_rewards_coefficient"))
}

fn is_a_directory(recipe: &RewardRecipe) -> Result<(), Failure> {
    match recipe.model == embedded::NAME {
        true => {
            Err(Failure::usage("model: the embedded story model is no directory; give one of an encoder or a decoder"))
        }
        false => Ok(()),
    }
}

/// The model that is trained, and its directory.
pub fn source(recipe: &RewardRecipe) -> Result<(ModelSource, &Path), Failure> {
    is_a_directory(recipe)?;
    let dir = Path::new(&recipe.model);
    check_dir(dir)?;
    Ok((ModelSource::Dir(dir.to_path_buf()), dir))
}

/// The pairs, and those that are held out where they are given.
pub fn rows(
    recipe: &RewardRecipe,
    progress: &Progress,
) -> Result<(Rows<PreferenceRow>, Option<Rows<PreferenceRow>>), Failure> {
    let read = |path: &str| data::rows(path, ("(embedded pairs)", embedded::PAIRS), recipe.bad_lines, progress);
    Ok((read(&recipe.pairs)?, recipe.eval_pairs.as_deref().map(read).transpose()?))
}

fn inputs(recipe: &RewardRecipe, device: &Device, progress: &Progress) -> Result<RewardInputs, Failure> {
    is_a_directory(recipe)?;
    let (rows, eval_rows) = rows(recipe, progress)?;
    let (source, dir) = source(recipe)?;
    let (model, made) = SequenceClassifier::to_be_trained(dir, device, recipe.dtype, recipe.seed)?;
    let own_tokenizer = recipe.tokenizer.as_deref().map(Path::new);
    let tokenizer = source.load_fitting_tokenizer(own_tokenizer, model.vocab_size(), model.raw_config())?;
    let companions = companions(&source, own_tokenizer)?;
    Ok(RewardInputs { model, made, base_name: source.base_name(), tokenizer, rows, eval_rows, companions })
}
