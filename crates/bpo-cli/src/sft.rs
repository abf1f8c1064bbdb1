//! `bpo sft`: supervised fine-tuning, of a model or from random weights.
use std::path::{Path, PathBuf};

use bpo_model::{Decoder, DecoderConfig};
use bpo_train::{SftInputs, SftRecipe};
use burn::tensor::Device;
use clap::Args;

use crate::{
    args::Globals,
    embedded,
    failure::{Failure, Kind, io_failure},
    out::Out,
    recipe,
    source::{ModelSource, check_vocabulary, tokenizer_at},
    train::{companions, open_run, run_folder, watch::Watch},
};

/// Supervised fine-tuning on prompts with completions, conversations or plain texts.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpo sft --set model=./SmolLM2-135M-Instruct --set data=rows.jsonl
  bpo sft --recipe assets/story/sft.toml --set data=corpus.jsonl")]
pub struct SftArgs {
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
pub fn run(args: &SftArgs, globals: &Globals) -> Result<(), Failure> {
    let table = recipe::load("", args.recipe.as_deref(), &args.sets)?;
    let recipe: SftRecipe = recipe::parse(&table, "recipe")?;
    recipe.validate()?;
    let device = globals.device()?;
    let folder = run_folder(args.run_dir.as_deref(), args.recipe.as_deref(), "sft");
    let dir = open_run(&folder, &recipe)?;
    let mut out = Out::new();
    if dir.is_finished() {
        out.line(&format!("{} is finished: nothing to do. Another --run-dir starts anew.", folder.display()))?;
        return out.flush();
    }
    let inputs = inputs(&recipe, &device)?;
    let mut watch = Watch::new(globals.progress(), globals.device_name());
    let report = bpo_train::sft(&recipe, inputs, &dir, &mut watch)?;
    watch.finish();
    if report.interrupted {
        let steps = report.steps;
        return Err(Failure::message(
            Kind::Interrupted,
            format!("interrupted after step {steps}; the same command goes on"),
        ));
    }
    out.line(&format!("{} steps, loss {:.4} nats per token", report.steps, report.loss))?;
    out.line(&format!("{}: {}", report.output, folder.join(&report.output).display()))?;
    out.flush()
}

fn inputs(recipe: &SftRecipe, device: &Device) -> Result<SftInputs, Failure> {
    let rows = match recipe.data.as_str() {
        embedded::NAME => return Err(Failure::usage("data: the story corpus is not embedded; see assets/story")),
        path => bpo_data::read_texts(Path::new(path))?,
    };
    let own_tokenizer = recipe.tokenizer.as_deref().map(Path::new);
    if let Some(path) = &recipe.model_config {
        let path = Path::new(path);
        let bytes = std::fs::read(path).map_err(|error| io_failure(path, &error))?;
        let config = DecoderConfig::from_json(path, &bytes)?;
        let folder = own_tokenizer.unwrap_or(Path::new("."));
        let tokenizer = tokenizer_at(folder)?;
        check_vocabulary(&tokenizer, &folder.display().to_string(), config.vocab_size)?;
        let companions = companions(&ModelSource::Dir(folder.to_path_buf()))?;
        let base = Decoder::random(config, recipe.seed, device)?;
        return Ok(SftInputs { base, base_name: "(new)".into(), tokenizer, rows, companions });
    }
    let source: ModelSource =
        recipe.model.as_deref().unwrap_or(embedded::NAME).parse().unwrap_or(ModelSource::Embedded);
    let vocab = source.load_config()?.vocab_size;
    let tokenizer = source.load_matching_tokenizer(own_tokenizer, vocab)?;
    let companions = companions(&source)?;
    Ok(SftInputs { base: source.load_decoder(device)?, base_name: source.base_name(), tokenizer, rows, companions })
}
