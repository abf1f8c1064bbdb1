//! Recipes: a TOML file, then `--set key=value` on top; relative paths mean what whoever wrote them meant.
mod explain;
mod paths;
mod sets;

use std::path::Path;

use toml::Table;

pub use explain::parse;

use crate::failure::{Failure, io_failure};

/// The table of a recipe: `file`, or else the text `default`, with `sets` on top.
///
/// An empty value in `sets` takes its key out. Paths in a file are relative to its folder, those in `sets` to the working directory; both come
/// out absolute. `embedded` is never a path.
///
/// # Errors
/// A file that cannot be read is bad input; anything wrong in it, or in `sets`, is a usage error.
pub fn load(default: &str, file: Option<&Path>, sets: &[String]) -> Result<Table, Failure> {
    let here = std::env::current_dir().map_err(|error| io_failure(Path::new("."), &error))?;
    let mut table = match file {
        None => from_text("the built-in recipe", default)?,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| io_failure(path, &error))?;
            let mut table = from_text(&path.display().to_string(), &text)?;
            let folder = path.parent().unwrap_or(Path::new(""));
            paths::resolve(&mut table, &here.join(folder), |_| true)?;
            table
        }
    };
    let mut sets = sets.iter().map(|text| sets::Setting::parse(text)).collect::<Result<Vec<_>, _>>()?;
    sets.sort_by_key(sets::Setting::turn);
    for setting in &sets {
        if setting.turn() > 0 && table.get("annotator").is_some_and(toml::Value::is_str) {
            // `annotator = "lexicon"` stands for a table, of which a key is set.
            paths::resolve(&mut table, &here, |key| key == "annotator")?;
        }
        setting.apply(&mut table)?;
    }
    // An empty shell variable must not mean the built-in model; `bpo sft` may do without one.
    if sets.iter().any(|setting| setting.removes("model")) && !table.contains_key("model_config") {
        return Err(Failure::usage("--set model=: the value is empty"));
    }
    paths::resolve(&mut table, &here, |key| sets.iter().any(|setting| setting.is_below(key)))?;
    Ok(table)
}

fn from_text(name: &str, text: &str) -> Result<Table, Failure> {
    text.parse().map_err(|error: toml::de::Error| Failure::usage(format!("{name}: {}", error.to_string().trim_end())))
}

#[cfg(test)]
mod tests;
