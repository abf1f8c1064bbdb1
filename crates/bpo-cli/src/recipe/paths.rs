//! Which keys hold paths, and how those become absolute.
use std::path::Path;

use bpo_annotate::AnnotatorConfig;
use bpo_service::SamplerConfig;
use serde::{Serialize, de::DeserializeOwned};
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
/// The keys with a rule of their own: a string or a table.
const ANNOTATOR: &str = "annotator";
/// See [`ANNOTATOR`].
const SAMPLER: &str = "sampler";

/// Makes the paths under the keys that `wanted` picks absolute, relative ones from `base`.
pub fn resolve(table: &mut Table, base: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), Failure> {
    for key in KEYS.into_iter().filter(|key| wanted(key)) {
        match table.get_mut(key) {
            Some(Value::String(text)) if key == MODEL && hub::named_beside(text, base).is_some() => {}
            Some(value) => absolute(value, base),
            None => {}
        }
    }
    if let Some(value) = table.get_mut(ANNOTATOR).filter(|_| wanted(ANNOTATOR)) {
        rewrite::<AnnotatorConfig>(ANNOTATOR, value, |config| config.resolve_paths(base))?;
    }
    if let Some(value) = table.get_mut(SAMPLER).filter(|_| wanted(SAMPLER)) {
        rewrite::<SamplerConfig>(SAMPLER, value, |config| config.resolve_paths(base))?;
    }
    Ok(())
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

/// Rewrites a setting that may be a string as the table that it stands for, with its paths resolved.
fn rewrite<C: DeserializeOwned + Serialize>(
    key: &str,
    value: &mut Value,
    resolve: impl FnOnce(&mut C),
) -> Result<(), Failure> {
    let bad = |error: &dyn std::fmt::Display| {
        let message = error.to_string();
        let told = unknown_key(&message).unwrap_or_else(|| message.trim_end().to_owned());
        Failure::usage(format!("`{key}`: {told}"))
    };
    let mut config: C = value.clone().try_into().map_err(|error: toml::de::Error| bad(&error.message()))?;
    resolve(&mut config);
    *value = Value::try_from(&config).map_err(|error| bad(&error))?;
    Ok(())
}
