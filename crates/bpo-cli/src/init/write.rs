//! The recipe's text.
use std::path::Path;

use bpo_train::{CausalRecipe, Recipe, RewardRecipe, SftRecipe};
use toml::{Table, Value};

use super::{Answers, Procedure, choose::Chosen};
use crate::{
    annotator, embedded,
    failure::{Failure, Kind},
    recipe,
};

/// Every chosen key under its reason; paths as they were given, or absolute where the recipe lies in another folder.
pub fn recipe(answers: &Answers, chosen: &Chosen, file: &Path) -> Result<String, Failure> {
    let here = std::env::current_dir().map_err(|error| crate::failure::io_failure(Path::new("."), &error))?;
    let folder = here.join(file).parent().map(Path::to_path_buf).unwrap_or_default();
    let named = |text: &str| {
        let is_kept = text == embedded::NAME || folder == here;
        let path = if is_kept { text.to_owned() } else { here.join(text).display().to_string() };
        Value::String(path)
    };
    let mut text = format!(
        "# {}. Written by `bpo init`.\n#   bpo check {path}    says what it would do, and for how long\n#   bpo {verb} {path}    does it\n# \
         docs/recipe.md has every key.\n",
        title(answers.procedure),
        verb = answers.procedure.verb(),
        path = file.display()
    );
    let mut line = |key: &str, value: &Value, why: &str| {
        let why = if why.is_empty() { String::new() } else { format!("# {why}\n") };
        text.push_str(&format!("{why}{key} = {value}\n"));
    };
    line("model", &named(&answers.model), "");
    line(answers.rows.key(), &named(answers.rows.file()), "");
    if let Some(file) = &answers.references {
        line("references", &named(file), "");
    }
    if answers.procedure.is_judged() {
        let judge = annotator(answers)?;
        let judge = if folder == here { parsed(&judge) } else { resolved(&judge)? };
        line("annotator", &judge, "who prefers; with pairs or outcomes, who scores held-out responses");
    }
    for (key, why) in &chosen.reasons {
        if let Some(value) = chosen.table.get(*key) {
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
        Procedure::Reward => "A reward model, fitted to the pairs of a file",
        Procedure::Sft => "Supervised fine-tuning on texts",
        Procedure::Causal => "Causal preference optimisation: texts with outcomes instead of preferences",
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
pub fn proven(text: &str, procedure: Procedure) -> Result<(), Failure> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| Failure::new(Kind::Internal, error))?;
    const NAME: &str = "the new recipe";
    Ok(match procedure {
        Procedure::Reward => recipe::parse::<RewardRecipe>(&table, NAME)?.validate(),
        Procedure::Sft => recipe::parse::<SftRecipe>(&table, NAME)?.validate(),
        Procedure::Causal => recipe::parse::<CausalRecipe>(&table, NAME)?.validate(),
        _ => recipe::parse::<Recipe>(&table, NAME)?.validate(),
    }?)
}
