//! What every key is set to, and by whom.
use serde::Serialize;
use serde_json::{Map, Value, json};
use toml::Table;

use crate::{failure::Failure, recipe, train::RunArgs};

/// `{key: {value, from}}` in the order of the recipe's type; `from` is `--set`, `recipe` or `default`.
pub fn keys<R: Serialize>(settings: &R, args: &RunArgs, default: &str) -> Result<Value, Failure> {
    let file: Table = recipe::read(default, args.recipe())?;
    let sets: Vec<String> = args.sets().iter().map(|set| root(set)).collect();
    let settings = serde_json::to_value(settings).map_err(|error| Failure::usage(format!("recipe: {error}")))?;
    let from = |key: &String| match () {
        () if sets.contains(key) => "--set",
        () if file.contains_key(key) => "recipe",
        () => "default",
    };
    let keys = settings.as_object().into_iter().flatten();
    let keys: Map<String, Value> =
        keys.map(|(key, value)| (key.clone(), json!({"value": value, "from": from(key)}))).collect();
    Ok(Value::Object(keys))
}

/// The outermost key of `a.b=value`.
fn root(set: &str) -> String {
    set.split(['=', '.']).next().unwrap_or_default().trim().to_owned()
}
