//! `bpo inspect`: says what a path is, without changing anything.
mod adapter;
mod data;
mod model;
mod run;
mod sample;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use crate::{
    args::Globals,
    failure::{Failure, io_failure},
    out::{Out, printable},
    source::ModelSource,
};

const EXAMPLES: &str = "\
Examples:
  bpo inspect ./SmolLM2-135M-Instruct
  bpo inspect pairs.parquet --model ./SmolLM2-135M-Instruct --row 7 --max-length 512
  bpo inspect runs/happy --json";

/// Say what a model, an adapter, a data file or a run is
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    /// A model directory, a GGUF file, a name on the hub, an adapter, a data file, a run directory, or `embedded`
    pub path: PathBuf,
    /// Model whose tokenizer counts the tokens of a data file
    #[arg(long, value_name = "DIR")]
    pub model: Option<ModelSource>,
    /// Row of a data file that is shown in tokens, from 1; with --model
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub row: usize,
    /// Longest prompt and completion, in tokens, for the count of rows that fit [default: the model's context]
    #[arg(long, value_name = "N", requires = "model")]
    pub max_length: Option<usize>,
    /// Longest prompt, in tokens
    #[arg(long, value_name = "N", requires = "model")]
    pub max_prompt_length: Option<usize>,
    /// Seed of the recipe, which decides the rows of a data file that `bpo train` holds out where it has no references
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Looks at the path and prints what is known.
pub fn run(args: &InspectArgs, _: &Globals) -> Result<(), Failure> {
    let (mut facts, tokenized) = facts(args)?;
    let mut out = Out::new();
    if args.json {
        out.json(&Value::Object(facts))?;
    } else {
        // People see the row in tokens, programs in ids.
        facts.remove("sample");
        print(&mut out, &facts, 0)?;
        if let Some(tokenized) = &tokenized {
            let (text, tokenizer) = tokenized.sample();
            let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            sample::print(&mut out, text, tokenizer, colour)?;
        }
    }
    out.flush()
}

fn facts(args: &InspectArgs) -> Result<(Map<String, Value>, Option<data::Tokenized>), Failure> {
    if let Ok(source @ (ModelSource::Gguf(_) | ModelSource::Hub(_))) = args.path.to_string_lossy().parse() {
        return Ok((model::facts(&source)?, None));
    }
    let found = std::fs::metadata(&args.path);
    if args.path != Path::new(crate::embedded::NAME) && found.is_ok_and(|found| !found.is_dir()) {
        return data::facts(args);
    }
    folder(args).map(|facts| (facts, None))
}

fn folder(args: &InspectArgs) -> Result<Map<String, Value>, Failure> {
    let path: &Path = &args.path;
    if path == Path::new(crate::embedded::NAME) {
        return model::facts(&ModelSource::Embedded);
    }
    std::fs::metadata(path).map_err(|error| io_failure(path, &error))?;
    let has = |name: &str| path.join(name).is_file();
    match () {
        () if has("adapter_config.json") => adapter::facts(path),
        () if has("config.json") => model::facts(&ModelSource::Dir(path.to_owned())),
        () if has("recipe.toml") || has("journal.bin") || has("metrics.jsonl") => run::facts(path),
        () => Err(Failure::input(format!(
            "{}: neither a model (config.json), nor an adapter (adapter_config.json), nor a run (recipe.toml)",
            path.display()
        ))),
    }
}

/// `key  value` lines, tables indented.
fn print(out: &mut Out, facts: &Map<String, Value>, depth: usize) -> Result<(), Failure> {
    let indent = "  ".repeat(depth);
    let width = facts.keys().map(String::len).max().unwrap_or(0);
    for (key, value) in facts {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.line(&format!("{indent}{key}"))?;
                print(out, inner, depth + 1)?;
            }
            Value::Array(list) if list.iter().any(Value::is_object) => {
                out.line(&format!("{indent}{key}"))?;
                list.iter().try_for_each(|item| out.line(&format!("{indent}  {}", plain(item))))?;
            }
            value => out.line(&format!("{indent}{key:width$}  {}", plain(value)))?,
        }
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => printable(text),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(map) if map.is_empty() => "none".to_owned(),
        Value::Object(map) => {
            map.iter().map(|(key, value)| format!("{key} {}", plain(value))).collect::<Vec<_>>().join("; ")
        }
        Value::Number(number) => {
            number.as_f64().filter(|_| number.is_f64()).map_or_else(|| number.to_string(), rounded)
        }
    }
}

/// Six digits of a number, which are enough to read; `--json` has all.
fn rounded(number: f64) -> String {
    format!("{number:.5e}").parse().map_or_else(|_| number.to_string(), |rounded: f64| rounded.to_string())
}

/// A JSON object as a map; anything else as an empty one.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
