//! Recipes: a TOML or YAML file, then `--set key=value` on top; relative paths mean what whoever wrote them meant.
mod explain;
mod paths;
mod sets;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Table;

pub use explain::parse;

use crate::failure::{Failure, io_failure};

/// The table of a recipe: `file`, or else the text `default`, with `sets` on top.
///
/// # Errors
/// A file that cannot be read is bad input; anything wrong in it, or in `sets`, is a usage error.
pub fn load(default: &str, file: Option<&Path>, sets: &[String]) -> Result<Table, Failure> {
    let mut table = read(default, file)?;
    apply(&mut table, sets)?;
    Ok(table)
}

/// The table in `file`, paths in it relative to its folder and made absolute, or else in the text `default`.
///
/// # Errors
/// As [`load`].
pub fn read(default: &str, file: Option<&Path>) -> Result<Table, Failure> {
    let Some(path) = file else { return from_text("the built-in recipe", default) };
    let text = std::fs::read_to_string(path).map_err(|error| io_failure(path, &error))?;
    let name = path.display().to_string();
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let mut table = if is_yaml { from_yaml(&name, &text)? } else { from_text(&name, &text)? };
    resolve(&mut table, path.parent().unwrap_or(Path::new("")))?;
    Ok(table)
}

/// Makes the paths in a table, relative to `folder`, absolute. `embedded` is never a path.
///
/// # Errors
/// A usage error for an annotator that is none.
pub fn resolve(table: &mut Table, folder: &Path) -> Result<(), Failure> {
    paths::resolve(table, &here()?.join(folder), |_| true)
}

/// Puts `sets` on top of a table. An empty value takes its key out; paths are relative to the working
/// directory and come out absolute.
///
/// # Errors
/// A usage error naming the setting.
pub fn apply(table: &mut Table, sets: &[String]) -> Result<(), Failure> {
    let here = here()?;
    let mut sets = sets.iter().map(|text| sets::Setting::parse(text)).collect::<Result<Vec<_>, _>>()?;
    sets.sort_by_key(sets::Setting::turn);
    for setting in &sets {
        let written =
            |table: &Table, key: &str| setting.is_below(key) && table.get(key).is_some_and(toml::Value::is_str);
        for key in ["annotator", "sampler"] {
            if setting.turn() > 0 && written(table, key) {
                // `annotator = "lexicon"` stands for a table, of which a key is set.
                paths::resolve(table, &here, |wanted| wanted == key)?;
            }
        }
        setting.apply(table)?;
    }
    // An empty shell variable must not mean the built-in model; `bpo sft` may do without one.
    if sets.iter().any(|setting| setting.removes("model")) && !table.contains_key("model_config") {
        return Err(Failure::usage("--set model=: the value is empty"));
    }
    paths::resolve(table, &here, |key| sets.iter().any(|setting| setting.is_below(key)))
}

/// The one `key` that the flag of its name gives: that of a recipe (`FILE.toml`), or what `--set key=…` would mean.
///
/// # Errors
/// As [`load`]; a usage error for a recipe without the key.
pub fn of_flag<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, Failure> {
    if !text.ends_with(".toml") {
        return parse(&load("", None, &[format!("{key}={text}")])?, &format!("--{key}"));
    }
    let mut table = read("", Some(Path::new(text)))?;
    table.retain(|found, _| found == key);
    if table.is_empty() {
        return Err(Failure::usage(format!("--{key}: {text} has no `{key}`")));
    }
    parse(&table, text)
}

fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| io_failure(Path::new("."), &error))
}

fn from_text(name: &str, text: &str) -> Result<Table, Failure> {
    text.parse().map_err(|error: toml::de::Error| Failure::usage(format!("{name}: {}", error.to_string().trim_end())))
}

/// A recipe in YAML, as users of TRL have them; a key without a value is one that is not there.
fn from_yaml(name: &str, text: &str) -> Result<Table, Failure> {
    let wrong = |error: String| Failure::usage(format!("{name}: {}", error.trim_end()));
    let mut value: Value = serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?;
    without_nulls(&mut value);
    match value {
        Value::Null => Ok(Table::new()),
        value @ Value::Object(_) => Table::try_from(value).map_err(|error| wrong(error.to_string())),
        _ => Err(wrong("expected keys with values, as in `beta: 0.1`".to_owned())),
    }
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
