//! `bpo sft`: supervised fine-tuning, of a model or from random weights.
use std::path::Path;

use bpo_model::{Decoder, DecoderConfig};
use bpo_train::{SftInputs, SftRecipe};
use burn::tensor::Device;
use clap::Args;

use crate::{
    args::Globals,
    data, embedded,
    failure::{Failure, Kind, io_failure},
    out::Out,
    progress::Progress,
    recipe, report,
    source::{ModelSource, check_vocabulary, companions, tokenizer_at},
    train::{
        RunArgs,
        start::{Identity, Start},
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
    recipe.validate()?;
    let device = globals.device()?;
    let folder = args.folder("sft");
    let start = Start::open(&folder, &recipe)?;
    let mut out = Out::new();
    if start.dir.is_finished() {
        return report::of_the_finished(&start.dir, out);
    }
    let progress = globals.progress();
    let inputs = inputs(&recipe, &device, &progress)?;
    start.settle(&identity(&recipe, globals)?)?;
    let mut watch = Watch::new(progress, globals.device_name(), &folder);
    let done = bpo_train::sft(&recipe, inputs, &start.dir, &mut watch)?;
    watch.finish();
    if done.interrupted {
        let steps = done.steps;
        return Err(Failure::message(
            Kind::Interrupted,
            format!("interrupted after step {steps}; the same command goes on"),
        ));
    }
    let loss = done.loss.map_or_else(String::new, |loss| format!(", loss {loss:.4} nats per token"));
    out.line(&format!("{} steps{loss}", done.steps))?;
    out.line(&format!("{}: {}", done.output, folder.join(&done.output).display()))?;
    report::at_the_end(&start.dir, &mut out)?;
    out.flush()
}

/// What the run reads.
pub fn identity(recipe: &SftRecipe, globals: &Globals) -> Result<Identity, Failure> {
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
pub fn inputs(recipe: &SftRecipe, device: &Device, progress: &Progress) -> Result<SftInputs, Failure> {
    let rows = match recipe.data.as_str() {
        embedded::NAME => return Err(Failure::usage("data: the story corpus is not embedded; see assets/story")),
        path => data::rows(path, ("", &[]), recipe.bad_lines, progress)?,
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
