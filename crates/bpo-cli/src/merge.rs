//! `bpo merge`: folds an adapter into its model and writes a Hugging Face directory.
use std::{
    fs,
    path::{Path, PathBuf},
};

use bpo_model::{WeightDtype, write_model};
use clap::Args;
use serde_json::Value;

use crate::{
    args::Globals,
    failure::{Failure, io_failure},
    out::Out,
    source::ModelSource,
};

const EXAMPLES: &str = "\
Example:
  bpo merge --adapter runs/happy/adapter --out ./happy-model --dtype bfloat16";

/// Fold an adapter into its model and write a Hugging Face directory
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MergeArgs {
    /// Language model: a Hugging Face directory, or `embedded` [default: the adapter's base model]
    #[arg(long, value_name = "DIR", required_unless_present = "adapter")]
    pub model: Option<ModelSource>,
    /// PEFT adapter; without one, the model is copied, with --dtype converted
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Number format: float32, float16 or bfloat16 [default: the model's]
    #[arg(long, value_name = "DTYPE", value_parser = dtype)]
    pub dtype: Option<WeightDtype>,
    /// Write into a folder that is not empty; other files in it are left alone
    #[arg(long)]
    pub force: bool,
}

fn dtype(name: &str) -> Result<WeightDtype, String> {
    WeightDtype::parse(name).ok_or_else(|| "known: float32, float16, bfloat16".to_owned())
}

/// Merges and writes.
pub fn run(args: &MergeArgs, globals: &Globals) -> Result<(), Failure> {
    let model = match (&args.model, &args.adapter) {
        (Some(model), _) => model.clone(),
        (None, Some(adapter)) => base_model(adapter)?,
        (None, None) => return Err(Failure::usage("--model is needed where there is no --adapter")),
    };
    check_target(args, &model)?;
    let decoder = model.load_with_adapter(args.adapter.as_deref(), &globals.device()?)?;
    let dtype = match args.dtype {
        Some(dtype) => dtype,
        None => model.dtype()?.unwrap_or(WeightDtype::F32),
    };
    let mut files = write_model(&decoder, dtype)?.to_vec();
    files.extend(model.companions()?);
    write(&args.out, &files)?;
    let mut out = Out::new();
    out.line(&args.out.display().to_string())?;
    out.flush()
}

/// The model an adapter says it was trained on.
fn base_model(adapter: &Path) -> Result<ModelSource, Failure> {
    let path = adapter.join("adapter_config.json");
    let bytes = fs::read(&path).map_err(|error| io_failure(&path, &error))?;
    let config: Value =
        serde_json::from_slice(&bytes).map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    let base = config.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default();
    match base.parse() {
        Ok(ModelSource::Dir(dir)) if !dir.is_dir() => Err(Failure::usage(format!(
            "{} names the base model \"{base}\", which is no folder here; give it with --model",
            path.display()
        ))),
        Ok(source) => Ok(source),
    }
}

/// Refuses to overwrite: what is there without `--force`, and the inputs with it.
fn check_target(args: &MergeArgs, model: &ModelSource) -> Result<(), Failure> {
    let out = &args.out;
    let Ok(target) = out.canonicalize() else { return Ok(()) };
    let model = match model {
        ModelSource::Dir(dir) => Some(dir),
        ModelSource::Embedded => None,
    };
    let is_target = |dir: &&PathBuf| dir.canonicalize().is_ok_and(|dir| dir == target);
    if let Some(input) = model.into_iter().chain(&args.adapter).find(is_target) {
        return Err(Failure::usage(format!("--out {} is also read from", input.display())));
    }
    let mut entries = fs::read_dir(out).map_err(|error| io_failure(out, &error))?;
    if !args.force && entries.next().is_some() {
        return Err(Failure::usage(format!(
            "--out {} is not empty; --force writes into it all the same",
            out.display()
        )));
    }
    Ok(())
}

/// Writes all files to a folder beside `out`, then moves them to their place: whoever finds `out` where
/// there was none finds all of it.
fn write(out: &Path, files: &[(&'static str, Vec<u8>)]) -> Result<(), Failure> {
    let out = std::path::absolute(out).map_err(|error| io_failure(out, &error))?;
    let name = out.file_name().ok_or_else(|| Failure::usage("--out names no folder"))?;
    let hidden = out.with_file_name(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
    let written = fill(&hidden, files).and_then(|()| settle(&hidden, &out, files));
    if hidden.exists() {
        // What is left of a failure, or the folder whose files were moved one by one.
        let _ = fs::remove_dir_all(&hidden);
    }
    written
}

#[expect(clippy::disallowed_methods, reason = "the folder is renamed into place when it is whole")]
fn fill(folder: &Path, files: &[(&'static str, Vec<u8>)]) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| io_failure(folder, &error))?;
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|error| io_failure(&path, &error))?;
    }
    Ok(())
}

fn settle(from: &Path, to: &Path, files: &[(&'static str, Vec<u8>)]) -> Result<(), Failure> {
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    for (name, _) in files {
        let path = to.join(name);
        fs::rename(from.join(name), &path).map_err(|error| io_failure(&path, &error))?;
    }
    Ok(())
}
