//! Which keys hold paths, and how those become absolute.
use std::path::Path;

use bpo_annotate::AnnotatorConfig;
use toml::{Table, Value};

use super::explain::unknown_key;
use crate::{embedded, failure::Failure, hub};

/// Keys whose values are paths, or lists of them.
const KEYS: [&str; 10] = [
    "model",
    "tokenizer",
    "prompts",
    "references",
    "data",
    "pairs",
    "eval_pairs",
    "outcomes",
    "adapter",
    "model_config",
];
/// The key whose value may be a name on the hub.
const MODEL: &str = "model";
/// The key with a rule of its own: a string or a table.
const ANNOTATOR: &str = "annotator";

/// Makes the paths under the keys that `wanted` picks absolute, relative ones from `base`.
pub fn resolve(table: &mut Table, base: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), Failure> {
    for key in KEYS.into_iter().filter(|key| wanted(key)) {
        match table.get_mut(key) {
            Some(Value::String(text)) if key == MODEL && hub::named_beside(text, base).is_some() => {}
            Some(value) => absolute(value, base),
            None => {}
        }
    }
    match table.get_mut(ANNOTATOR) {
        Some(value) if wanted(ANNOTATOR) => annotator(value, base),
        _ => Ok(()),
    }
}

fn absolute(value: &mut Value, base: &Path) {
    match value {
        Value::String(text) if text != embedded::NAME && !text.is_empty() => *text = joined(base, text),
        Value::Array(list) => list.iter_mut().for_each(|value| absolute(value, base)),
        _ => {}
    }
}

/// `base/text` without `.` in it.
fn joined(base: &Path, text: &str) -> String {
    base.join(text).components().collect::<std::path::PathBuf>().to_string_lossy().into_owned()
}

/// Rewrites an annotator as the table that it stands for, with its paths resolved.
fn annotator(value: &mut Value, base: &Path) -> Result<(), Failure> {
    let bad = |error: &dyn std::fmt::Display| {
        let message = error.to_string();
        let told = unknown_key(&message).unwrap_or_else(|| message.trim_end().to_owned());
        Failure::usage(format!("`{ANNOTATOR}`: {told}"))
    };
    let mut config: AnnotatorConfig =
        value.clone().try_into().map_err(|error: toml::de::Error| bad(&error.message()))?;
    config.resolve_paths(base);
    *value = Value::try_from(&config).map_err(|error| bad(&error))?;
    Ok(())
}
