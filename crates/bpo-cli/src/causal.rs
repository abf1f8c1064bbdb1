//! `bpo train` on texts with outcomes: causal preference optimisation.
use std::path::Path;

use bpo_data::{OutcomeRow, ReferenceRow, Rows};
use bpo_model::Adapter;
use bpo_store::RunDir;
use bpo_train::{CausalEstimator, CausalForm, CausalInputs, CausalRecipe, Outcome, Report};
use burn::tensor::Device;
use toml::Table;

use crate::{
    annotator,
    args::Globals,
    data, embedded,
    failure::Failure,
    out::Out,
    progress::Progress,
    recipe,
    source::{ModelSource, companions},
    train::{
        RunArgs,
        runner::{self, Trainer},
        start::Identity,
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
    let recipe: CausalRecipe = recipe::parse(&table, "recipe")?;
    runner::run(&recipe, &args.folder("story-causal"), globals, globals.progress())
}

impl Trainer for CausalRecipe {
    type Inputs = CausalInputs;
    type Report = Report;

    fn validate(&self) -> Result<(), bpo_train::Error> {
        self.validate()
    }

    fn inputs(&self, device: &Device, progress: &Progress) -> Result<CausalInputs, Failure> {
        inputs(self, device, progress)
    }

    fn identity(&self, globals: &Globals) -> Result<Identity, Failure> {
        identity(self, globals)
    }

    fn train(&self, inputs: CausalInputs, dir: &RunDir, watch: &mut Watch) -> Result<Outcome, bpo_train::Error> {
        bpo_train::causal(self, inputs, dir, watch)
    }

    fn tell(&self, report: &Report, folder: &Path, out: &mut Out) -> Result<(), Failure> {
        let (steps, texts, annotator) = (report.steps, report.pairs, &report.annotator);
        let headline = format!("{steps} steps, {texts} texts ({}, annotator {annotator})", estimator(self));
        summary::print_under(&headline, report, folder, out)
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
fn identity(recipe: &CausalRecipe, globals: &Globals) -> Result<Identity, Failure> {
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

/// Texts with outcomes, and held-out prompts with reference texts.
pub fn rows(
    recipe: &CausalRecipe,
    progress: &Progress,
) -> Result<(Rows<OutcomeRow>, Option<Rows<ReferenceRow>>), Failure> {
    let built_in = ("(embedded outcomes)", embedded::OUTCOMES);
    let rows = data::rows(&recipe.outcomes, built_in, recipe.bad_lines, progress)?;
    Ok((rows, data::references(recipe.references.as_deref(), recipe.bad_lines, progress)?))
}

/// What the run works on, read and ready.
fn inputs(recipe: &CausalRecipe, device: &Device, progress: &Progress) -> Result<CausalInputs, Failure> {
    // Cheap things first: what is wrong with them should not cost the loading of a model.
    let annotator = annotator::build(&recipe.annotator, device)?;
    let (rows, references) = rows(recipe, progress)?;
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
