//! `bpo train` on texts with outcomes: causal preference optimisation.
use std::path::Path;

use bpo_model::Adapter;
use bpo_train::{CausalEstimator, CausalForm, CausalInputs, CausalRecipe, Outcome};
use burn::tensor::Device;
use toml::Table;

use crate::{
    annotator,
    args::Globals,
    data, embedded,
    failure::{Failure, Kind},
    out::Out,
    progress::Progress,
    recipe, report,
    source::{ModelSource, companions},
    train::{
        RunArgs,
        start::{Identity, Start},
        summary,
        watch::Watch,
    },
};

/// The recipe of a run on outcomes without one.
pub const DEFAULT: &str = include_str!("../recipes/story-causal.toml");

/// The key that makes a recipe one of this kind.
pub const KEY: &str = "outcomes";

/// Runs `table`.
pub fn run(args: &RunArgs, table: Table, globals: &Globals) -> Result<(), Failure> {
    let progress = globals.progress();
    let recipe: CausalRecipe = recipe::parse(&table, "recipe")?;
    recipe.validate()?;
    let device = globals.device()?;
    let folder = args.folder("story-causal");
    let start = Start::open(&folder, &recipe)?;
    let mut out = Out::new();
    if start.dir.is_finished() {
        return report::of_the_finished(&start.dir, out);
    }
    progress.say(&format!("run: {}", folder.display()));
    let inputs = inputs(&recipe, &device, &progress)?;
    start.settle(&identity(&recipe, globals)?)?;
    let mut watch = Watch::new(progress, globals.device_name(), &folder);
    let outcome = bpo_train::causal(&recipe, inputs, &start.dir, &mut watch)?;
    watch.finish();
    match outcome {
        Outcome::Finished(report) => {
            let (steps, texts, annotator) = (report.steps, report.pairs, &report.annotator);
            let headline = format!("{steps} steps, {texts} texts ({}, annotator {annotator})", estimator(&recipe));
            summary::print_under(&headline, &report, &folder, &mut out)?;
            report::at_the_end(&start.dir, &mut out)?;
            out.flush()
        }
        Outcome::Interrupted(step) => {
            Err(Failure::message(Kind::Interrupted, format!("interrupted after step {step}; the same command goes on")))
        }
    }
}

fn estimator(recipe: &CausalRecipe) -> String {
    let estimator = match recipe.causal_estimator {
        CausalEstimator::Ipw => "ipw",
        CausalEstimator::Dr => "dr",
    };
    let form = match recipe.causal_form {
        CausalForm::Textbook => "textbook form",
        CausalForm::Official => "official form",
    };
    format!("{estimator}, {form}")
}

/// What the run reads.
pub fn identity(recipe: &CausalRecipe, globals: &Globals) -> Result<Identity, Failure> {
    let source: ModelSource = recipe.model.parse().unwrap_or(ModelSource::Embedded);
    let mut identity = Identity::on(globals.device_name());
    identity.data(KEY, &recipe.outcomes, embedded::OUTCOMES)?;
    if let Some(references) = &recipe.references {
        identity.data("references", references, embedded::EVAL_PROMPTS)?;
    }
    identity.model(&source)?;
    identity.tokenizer(&source, recipe.tokenizer.as_deref().map(Path::new))?;
    if let Some(adapter) = &recipe.adapter {
        identity.adapter(0, Path::new(adapter))?;
    }
    identity.annotator(&recipe.annotator)?;
    Ok(identity)
}

/// What the run works on, read and ready.
pub fn inputs(recipe: &CausalRecipe, device: &Device, progress: &Progress) -> Result<CausalInputs, Failure> {
    // Cheap things first: what is wrong with them should not cost the loading of a model.
    let annotator = annotator::build(&recipe.annotator, device)?;
    let built_in = ("(embedded outcomes)", embedded::OUTCOMES);
    let rows = data::rows(&recipe.outcomes, built_in, recipe.bad_lines, progress)?;
    let references = data::references(recipe.references.as_deref(), recipe.bad_lines, progress)?;
    let source: ModelSource = recipe.model.parse().unwrap_or(ModelSource::Embedded);
    let own_tokenizer = recipe.tokenizer.as_deref().map(Path::new);
    let tokenizer = source.load_matching_tokenizer(own_tokenizer, &source.load_config()?)?;
    let base = source.load_decoder(device, recipe.dtype)?;
    let adapter = recipe.adapter.as_ref().map(|dir| Adapter::from_dir(Path::new(dir), device)).transpose()?;
    Ok(CausalInputs {
        base,
        base_name: source.base_name(),
        adapter,
        tokenizer,
        rows,
        references,
        annotator,
        companions: companions(&source, own_tokenizer)?,
    })
}
