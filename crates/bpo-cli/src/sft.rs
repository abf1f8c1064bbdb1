//! `bpo sft`: supervised fine-tuning, of a model or from random weights.
use std::path::Path;

use bpo_data::RowReader;
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
    let source: ModelSource =
        recipe.model.as_deref().unwrap_or(embedded::NAME).parse().unwrap_or(ModelSource::Embedded);
    let mut identity = Identity::on(globals.device_name());
    identity.file("data", Path::new(&recipe.data))?;
    match &recipe.model_config {
        Some(path) => identity.file("model_config", Path::new(path))?,
        None => identity.model(&source)?,
    }
    identity.tokenizer(&source, recipe.tokenizer.as_deref().map(Path::new))?;
    Ok(identity)
}

/// What the run works on, read and ready.
fn inputs(recipe: &SftRecipe, device: &Device, progress: &Progress) -> Result<SftInputs, Failure> {
    let rows = match recipe.data.as_str() {
        embedded::NAME => return Err(Failure::usage("data: the story corpus is not embedded; see assets/story")),
        path => data::told(RowReader::file(Path::new(path)).with_bad_lines(recipe.bad_lines).texts()?, progress),
    };
    let own_tokenizer = recipe.tokenizer.as_deref().map(Path::new);
    if let Some(path) = &recipe.model_config {
        let path = Path::new(path);
        let bytes = std::fs::read(path).map_err(|error| io_failure(path, &error))?;
        let config = DecoderConfig::from_json(path, &bytes)?;
        let folder = own_tokenizer.unwrap_or(Path::new("."));
        let tokenizer = tokenizer_at(folder)?;
        check_vocabulary(&tokenizer, &folder.display().to_string(), config.vocab_size)?;
        let companions = companions(&ModelSource::Embedded, Some(folder))?;
        let base = Decoder::random(config, recipe.seed, device)?;
        return Ok(SftInputs { base, base_name: "(new)".into(), tokenizer, rows, companions });
    }
    let source: ModelSource =
        recipe.model.as_deref().unwrap_or(embedded::NAME).parse().unwrap_or(ModelSource::Embedded);
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
