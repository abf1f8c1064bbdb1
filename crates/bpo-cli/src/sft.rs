//! `bpo sft`: supervised fine-tuning, of a model or from random weights.
use std::path::Path;

use bpo_data::{Rows, TextRow, Tokenizer};
use bpo_model::{Decoder, DecoderConfig};
use bpo_store::RunDir;
use bpo_train::{Outcome, SftInputs, SftRecipe, SftReport};
use burn::tensor::Device;
use clap::Args;

use crate::{
    args::Globals,
    data, embedded,
    failure::{Failure, io_failure},
    out::Out,
    progress::Progress,
    recipe,
    source::{ModelSource, check_vocabulary, companions, tokenizer_at},
    train::{
        RunArgs,
        runner::{self, Trainer},
        start::Identity,
        watch::Watch,
    },
};

/// The key that makes a recipe one of this kind.
pub const KEY: &str = "data";

/// Supervised fine-tuning, of a model or from random weights
///
/// The data are prompts with completions, conversations or plain texts. The same command continues an
/// interrupted run; a finished one is left alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpo sft --set model=./SmolLM2-135M-Instruct --set data=rows.jsonl
  bpo sft assets/story/sft.toml --set data=corpus.jsonl")]
pub struct SftArgs {
    /// Which run, with which settings.
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the verb.
pub fn run(args: &SftArgs, globals: &Globals) -> Result<(), Failure> {
    let args = &args.run;
    let table = recipe::load("", args.recipe(), &args.sets())?;
    let recipe: SftRecipe = recipe::parse(&table, "recipe")?;
    runner::run(&recipe, &args.folder("sft"), globals, globals.progress())
}

impl Trainer for SftRecipe {
    type Inputs = SftInputs;
    type Report = SftReport;
    const NAMES_FOLDER: bool = false;

    fn validate(&self) -> Result<(), bpo_train::Error> {
        self.validate()
    }

    fn inputs(&self, device: &Device, progress: &Progress) -> Result<SftInputs, Failure> {
        inputs(self, device, progress)
    }

    fn identity(&self, globals: &Globals) -> Result<Identity, Failure> {
        identity(self, globals)
    }

    fn train(
        &self,
        inputs: SftInputs,
        dir: &RunDir,
        watch: &mut Watch,
    ) -> Result<Outcome<SftReport>, bpo_train::Error> {
        bpo_train::sft(self, inputs, dir, watch)
    }

    fn tell(&self, report: &SftReport, folder: &Path, out: &mut Out) -> Result<(), Failure> {
        let SftReport { steps, loss, output } = report;
        let loss = loss.map_or_else(String::new, |loss| format!(", loss {loss:.4} nats per token"));
        out.line(&format!("{steps} steps{loss}"))?;
        out.line(&format!("{output}: {}", folder.join(output).display()))
    }
}

/// What the run reads.
fn identity(recipe: &SftRecipe, globals: &Globals) -> Result<Identity, Failure> {
    let source = source(recipe);
    let mut identity = Identity::on(globals.device_name());
    identity.file("data", Path::new(&recipe.data))?;
    match &recipe.model_config {
        Some(path) => identity.file("model_config", Path::new(path))?,
        None => identity.model(&source)?,
    }
    identity.tokenizer(&source, recipe.tokenizer.as_deref().map(Path::new))?;
    Ok(identity)
}

/// The model that is trained, where there is one.
pub fn source(recipe: &SftRecipe) -> ModelSource {
    recipe.model.as_deref().unwrap_or(embedded::NAME).parse().unwrap_or(ModelSource::Embedded)
}

/// The texts to train on.
pub fn rows(recipe: &SftRecipe, progress: &Progress) -> Result<Rows<TextRow>, Failure> {
    match recipe.data.as_str() {
        embedded::NAME => Err(Failure::usage("data: the story corpus is not embedded; see assets/story")),
        path => data::rows(path, ("", &[]), recipe.bad_lines, progress),
    }
}

/// The shape of a new model, and its tokenizer.
pub fn new_model(recipe: &SftRecipe, path: &Path) -> Result<(DecoderConfig, Tokenizer), Failure> {
    let bytes = std::fs::read(path).map_err(|error| io_failure(path, &error))?;
    let config = DecoderConfig::from_json(path, &bytes)?;
    let folder = recipe.tokenizer.as_deref().map_or(Path::new("."), Path::new);
    let tokenizer = tokenizer_at(folder)?;
    check_vocabulary(&tokenizer, &folder.display().to_string(), config.vocab_size)?;
    Ok((config, tokenizer))
}

/// What the run works on, read and ready.
fn inputs(recipe: &SftRecipe, device: &Device, progress: &Progress) -> Result<SftInputs, Failure> {
    let rows = rows(recipe, progress)?;
    let own_tokenizer = recipe.tokenizer.as_deref().map(Path::new);
    if let Some(path) = &recipe.model_config {
        let (config, tokenizer) = new_model(recipe, Path::new(path))?;
        let companions = companions(&ModelSource::Embedded, own_tokenizer)?;
        let base = Decoder::random(config, recipe.seed, device)?;
        return Ok(SftInputs { base, base_name: "(new)".into(), tokenizer, rows, companions });
    }
    let source = source(recipe);
    let tokenizer = source.load_matching_tokenizer(own_tokenizer, &source.load_config()?)?;
    let companions = companions(&source, own_tokenizer)?;
    Ok(SftInputs {
        base: source.load_decoder(device, recipe.dtype)?,
        base_name: source.base_name(),
        tokenizer,
        rows,
        companions,
    })
}
