//! `bpo reward`: reward models, from preference pairs.
use std::path::{Path, PathBuf};

use bpo_model::SequenceClassifier;
use bpo_train::{RewardEvaluation, RewardInputs, RewardRecipe};
use burn::tensor::Device;
use clap::{Args, Subcommand};

use crate::{
    args::Globals,
    data, embedded,
    failure::{Failure, Kind},
    out::Out,
    progress::Progress,
    recipe, report,
    source::{ModelSource, check_dir, companions},
    train::{
        RunArgs,
        start::{Identity, Start},
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
    recipe.validate()?;
    let device = globals.device()?;
    let folder = args.folder("reward");
    let start = Start::open(&folder, &recipe)?;
    let mut out = Out::new();
    if start.dir.is_finished() {
        return report::of_the_finished(&start.dir, out);
    }
    let progress = globals.progress();
    progress.say(&format!("run: {}", folder.display()));
    let inputs = inputs(&recipe, &device, &progress)?;
    start.settle(&identity(&recipe, globals)?)?;
    let mut watch = Watch::new(progress, globals.device_name(), &folder);
    let done = bpo_train::reward(&recipe, inputs, &start.dir, &mut watch)?;
    watch.finish();
    if done.interrupted {
        let steps = done.steps;
        return Err(Failure::message(
            Kind::Interrupted,
            format!("interrupted after step {steps}; the same command goes on"),
        ));
    }
    out.line(&format!("{} steps", done.steps))?;
    if let Some(evaluation) = &done.evaluation {
        told(evaluation, &mut out)?;
    }
    out.line(&format!("{}: {}", done.output, folder.join(&done.output).display()))?;
    report::at_the_end(&start.dir, &mut out)?;
    out.flush()
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

fn inputs(recipe: &RewardRecipe, device: &Device, progress: &Progress) -> Result<RewardInputs, Failure> {
    if recipe.model == embedded::NAME {
        return Err(Failure::usage(
            "model: the embedded story model is no directory; give one of an encoder or a decoder",
        ));
    }
    let read = |path: &str| data::rows(path, ("(embedded pairs)", embedded::PAIRS), recipe.bad_lines, progress);
    let rows = read(&recipe.pairs)?;
    let eval_rows = recipe.eval_pairs.as_deref().map(read).transpose()?;
    let dir = Path::new(&recipe.model);
    check_dir(dir)?;
    let (model, made) = SequenceClassifier::to_be_trained(dir, device, recipe.dtype, recipe.seed)?;
    let source = ModelSource::Dir(dir.to_path_buf());
    let own_tokenizer = recipe.tokenizer.as_deref().map(Path::new);
    let tokenizer = source.load_fitting_tokenizer(own_tokenizer, model.vocab_size(), model.raw_config())?;
    let companions = companions(&source, own_tokenizer)?;
    Ok(RewardInputs { model, made, base_name: source.base_name(), tokenizer, rows, eval_rows, companions })
}
