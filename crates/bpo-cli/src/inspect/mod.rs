//! `bpo inspect`: says what a path is, without changing anything.
mod adapter;
mod data;
mod model;
mod run;

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
  bpo inspect prompts.jsonl --model ./SmolLM2-135M-Instruct
  bpo inspect runs/happy --json";

/// Say what a model, an adapter, a data file or a run is
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    /// A model directory, an adapter, a data file, a run directory, or `embedded`
    pub path: PathBuf,
    /// Model whose tokenizer counts the tokens of a data file
    #[arg(long, value_name = "DIR")]
    pub model: Option<ModelSource>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Looks at the path and prints what is known.
pub fn run(args: &InspectArgs, _: &Globals) -> Result<(), Failure> {
    let facts = facts(args)?;
    let mut out = Out::new();
    if args.json {
        out.json(&Value::Object(facts))?;
    } else {
        print(&mut out, &facts, 0)?;
    }
    out.flush()
}

fn facts(args: &InspectArgs) -> Result<Map<String, Value>, Failure> {
    let path: &Path = &args.path;
    if path == Path::new(crate::embedded::NAME) {
        return model::facts(&ModelSource::Embedded);
    }
    let found = std::fs::metadata(path).map_err(|error| io_failure(path, &error))?;
    let has = |name: &str| path.join(name).is_file();
    match found.is_dir() {
        false => data::facts(path, args.model.as_ref()),
        true if has("adapter_config.json") => adapter::facts(path),
        true if has("config.json") => model::facts(&ModelSource::Dir(path.to_owned())),
        true if has("recipe.toml") || has("journal.bin") || has("metrics.jsonl") => run::facts(path),
        true => Err(Failure::input(format!(
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
                list.iter().try_for_each(|item| out.line(&format!("{indent}  {item}")))?;
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
        other => other.to_string(),
    }
}

/// A JSON object as a map; anything else as an empty one.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
