//! `bpo merge`: folds adapters into their model and writes a Hugging Face directory, or merges them into one.
use std::{
    fs,
    path::{Path, PathBuf},
};

use bpo_model::{Adapter, AdapterMerge, Dtype, WeightDtype, adapter_spread, merge_adapters, write_model};
use burn::tensor::Device;
use clap::Args;
use serde_json::Value;

use crate::{
    args::Globals,
    failure::{Failure, io_failure},
    out::Out,
    source::ModelSource,
};

const EXAMPLES: &str = "\
Examples:
  bpo merge --adapter runs/happy/adapter --out ./happy-model --dtype bfloat16
  bpo merge --adapter a --adapter b --weights 0.7,0.3 --out ./ensemble-model
  bpo merge --adapter a --adapter b --method svd:16 --adapter-only --out ./ensemble

Methods (D_k: what adapter k adds to a weight, its scaling included):
  mean         the sum of w_k D_k, exactly
  concat       the same as stacked factors, of the sum of the ranks (PEFT's \"cat\")
  svd:R        its best approximation of rank R; the error is reported
  peft_linear  factors summed with the roots of the weights, as the authors of BPO do (PEFT's
               \"linear\"): not a mean, K equal adapters give K times one of them";

/// Fold adapters into their model and write a Hugging Face directory, or merge them into one adapter
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MergeArgs {
    /// Language model: a Hugging Face directory, a GGUF file, a name on the hub, or `embedded` [default: the adapters' base model]
    #[arg(long, value_name = "DIR", required_unless_present = "adapter")]
    pub model: Option<ModelSource>,
    /// PEFT adapter, once for each; without one, the model is copied, with --dtype converted
    #[arg(long, value_name = "DIR")]
    pub adapter: Vec<PathBuf>,
    /// How several adapters become one: mean, concat, svd:R or peft_linear
    #[arg(long, value_name = "METHOD", default_value_t, requires = "adapter")]
    pub method: AdapterMerge,
    /// Weight of each --adapter, in their order [default: 1/K each]
    #[arg(long, value_name = "W,W,…", value_delimiter = ',', allow_hyphen_values = true, requires = "adapter")]
    pub weights: Vec<f64>,
    /// Write the merged adapter, a PEFT folder, instead of a model
    #[arg(long, requires = "adapter", conflicts_with = "dtype")]
    pub adapter_only: bool,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Number format: float32, float16 or bfloat16 [default: the model's; float32 of a quantised one]
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
    let files = if args.adapter_only { adapter_files(args, globals)? } else { model_files(args, globals)? };
    write(&args.out, &files)?;
    let mut out = Out::new();
    out.line(&args.out.display().to_string())?;
    out.flush()
}

/// The model, everything folded in, and what lies beside it.
fn model_files(args: &MergeArgs, globals: &Globals) -> Result<Vec<(&'static str, Vec<u8>)>, Failure> {
    let model = match &args.model {
        Some(model) => model.clone(),
        None => base_model(&args.adapter)?,
    };
    check_target(args, Some(&model))?;
    let device = globals.device()?;
    let mut decoder = model.load_decoder(&device, Dtype::Float32)?;
    if let Some(adapter) = merged_adapter(args, &device, globals)? {
        decoder = decoder.with_adapter(&adapter, 0.0)?;
    }
    let dtype = match args.dtype {
        Some(dtype) => dtype,
        None => model.dtype()?.unwrap_or(WeightDtype::F32),
    };
    let mut files = write_model(&decoder, dtype)?.to_vec();
    files.extend(model.companions()?);
    Ok(files)
}

/// The merged adapter; no model is read for it.
fn adapter_files(args: &MergeArgs, globals: &Globals) -> Result<Vec<(&'static str, Vec<u8>)>, Failure> {
    check_target(args, args.model.as_ref())?;
    let base = match &args.model {
        Some(model) => model.base_name(),
        None => base_name(&args.adapter)?,
    };
    match merged_adapter(args, &globals.device()?, globals)? {
        Some(adapter) => Ok(adapter.to_peft(&base)?.to_vec()),
        None => Err(Failure::usage("--adapter-only needs an --adapter")),
    }
}

/// All adapters as one; `None` without any.
fn merged_adapter(args: &MergeArgs, device: &Device, globals: &Globals) -> Result<Option<Adapter>, Failure> {
    let count = args.adapter.len();
    if count == 0 {
        return Ok(None);
    }
    let weights = if args.weights.is_empty() { vec![1.0 / count as f64; count] } else { args.weights.clone() };
    if weights.len() != count {
        return Err(Failure::usage(format!("--weights: {} for {count} adapters", weights.len())));
    }
    let members = args.adapter.iter().map(|dir| Adapter::from_dir(dir, device)).collect::<Result<Vec<_>, _>>()?;
    let members: Vec<&Adapter> = members.iter().collect();
    let merged = merge_adapters(&members, &weights, args.method)?;
    if count > 1 || merged.error > 0.0 {
        globals.progress().say(&format!(
            "{} of {count}: relative error {:.3e}; spread of the adapters {:.3e}",
            args.method,
            merged.error,
            adapter_spread(&members)?
        ));
    }
    Ok(Some(merged.adapter))
}

/// The model that all adapters say they were trained on.
fn base_model(adapters: &[PathBuf]) -> Result<ModelSource, Failure> {
    let base = base_name(adapters)?;
    match base.parse() {
        Ok(ModelSource::Dir(path) | ModelSource::Gguf(path)) if !path.exists() => Err(Failure::usage(format!(
            "{} names the base model \"{base}\", which is not here; give it with --model",
            adapters.first().map(|adapter| config_path(adapter).display().to_string()).unwrap_or_default()
        ))),
        Ok(source) => Ok(source),
    }
}

/// The `base_model_name_or_path` that all adapters share.
fn base_name(adapters: &[PathBuf]) -> Result<String, Failure> {
    let names = adapters.iter().map(|adapter| named_base(adapter)).collect::<Result<Vec<_>, _>>()?;
    match names.iter().find(|name| **name != names[0]) {
        Some(other) => Err(Failure::usage(format!(
            "the adapters name the base models \"{}\" and \"{other}\"; say which with --model",
            names[0]
        ))),
        None => Ok(names.into_iter().next().unwrap_or_default()),
    }
}

fn named_base(adapter: &Path) -> Result<String, Failure> {
    let path = config_path(adapter);
    let bytes = fs::read(&path).map_err(|error| io_failure(&path, &error))?;
    let config: Value =
        serde_json::from_slice(&bytes).map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    Ok(config.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default().to_owned())
}

fn config_path(adapter: &Path) -> PathBuf {
    adapter.join("adapter_config.json")
}

/// Refuses to overwrite: what is there without `--force`, and the inputs with it.
fn check_target(args: &MergeArgs, model: Option<&ModelSource>) -> Result<(), Failure> {
    let out = &args.out;
    let Ok(target) = out.canonicalize() else { return Ok(()) };
    let model = match model {
        Some(ModelSource::Dir(dir)) => Some(dir),
        Some(ModelSource::Embedded | ModelSource::Gguf(_) | ModelSource::Hub(_)) | None => None,
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
