//! The recipe's text.
use std::path::Path;

use bpo_train::Recipe;
use toml::{Table, Value};

use super::{Answers, Procedure, Rows, choose::Chosen};
use crate::{
    annotator, embedded,
    failure::{Failure, Kind},
    recipe,
};

/// Every chosen key under its reason; paths as they were given, or absolute where the recipe lies in another folder.
pub fn recipe(answers: &Answers, chosen: &Chosen, file: &Path) -> Result<String, Failure> {
    let internal = |error: toml::ser::Error| Failure::new(Kind::Internal, error);
    let settings = Table::try_from(&chosen.recipe).map_err(internal)?;
    let here = std::env::current_dir().map_err(|error| crate::failure::io_failure(Path::new("."), &error))?;
    let folder = here.join(file).parent().map(Path::to_path_buf).unwrap_or_default();
    let named = |text: &str| {
        let is_kept = text == embedded::NAME || folder == here;
        let path = if is_kept { text.to_owned() } else { here.join(text).display().to_string() };
        Value::String(path)
    };
    let mut text = format!(
        "# {}. Written by `bpo init`.\n#   bpo check {path}    says what it would do, and for how long\n#   bpo train {path}    does it\n# \
         docs/recipe.md has every key.\n",
        title(answers.procedure),
        path = file.display()
    );
    let mut line = |key: &str, value: &Value, why: &str| {
        let why = if why.is_empty() { String::new() } else { format!("# {why}\n") };
        text.push_str(&format!("{why}{key} = {value}\n"));
    };
    line("model", &named(&answers.model), "");
    match &answers.rows {
        Rows::Prompts(file) => line("prompts", &named(file), ""),
        Rows::Pairs(file) => line("pairs", &named(file), ""),
    }
    if let Some(file) = &answers.references {
        line("references", &named(file), "");
    }
    let judge = annotator(answers)?;
    let judge = if folder == here { parsed(&judge) } else { resolved(&judge)? };
    line("annotator", &judge, "who prefers; with pairs, who scores held-out responses");
    for (key, why) in &chosen.reasons {
        if let Some(value) = settings.get(*key) {
            line(key, value, why);
        }
    }
    Ok(text)
}

fn title(procedure: Procedure) -> &'static str {
    match procedure {
        Procedure::Bpo => "BPO: online preference optimisation against the behaviour policy",
        Procedure::OnlineDpo => "Online DPO: fresh responses, the reference stays the start",
        Procedure::OfflineDpo => "Offline DPO: responses of the start, once",
        Procedure::Dpo => "DPO on the pairs of a file",
    }
}

/// The annotator as a recipe names it, checked.
pub fn annotator(answers: &Answers) -> Result<String, Failure> {
    let config = annotator::parse_flag(&answers.annotator)?;
    config.check()?;
    if !answers.annotator.ends_with(".toml") {
        return Ok(answers.annotator.clone());
    }
    Value::try_from(&config).map(|value| value.to_string()).map_err(|error| Failure::new(Kind::Internal, error))
}

/// A TOML value, or a string.
fn parsed(text: &str) -> Value {
    let table: Option<Table> = format!("value = {text}").parse().ok();
    table.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// With paths made absolute.
fn resolved(text: &str) -> Result<Value, Failure> {
    let table = recipe::load("", None, &[format!("annotator={text}")])?;
    Ok(table.get("annotator").cloned().unwrap_or_else(|| Value::String(text.to_owned())))
}

/// What is written is a recipe.
pub fn proven(text: &str) -> Result<(), Failure> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| Failure::new(Kind::Internal, error))?;
    let settings: Recipe = recipe::parse(&table, "the new recipe")?;
    Ok(settings.validate()?)
}
