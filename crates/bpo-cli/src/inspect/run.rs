//! Facts about a run's folder. Files are only looked at: a run in progress is not disturbed.
use std::{fs, io::ErrorKind, path::Path};

use serde_json::{Map, Value, json};

use super::object;
use crate::failure::{Failure, Kind};

/// Metrics lines that are shown.
const LAST: usize = 3;

/// Recipe, state, last metrics, checkpoints.
pub fn facts(dir: &Path) -> Result<Map<String, Value>, Failure> {
    let finished: Option<Value> = text(&dir.join("finished.json"))?.and_then(|text| serde_json::from_str(&text).ok());
    let recipe = text(&dir.join("recipe.toml"))?.unwrap_or_default();
    let recipe: toml::Table = recipe.parse().unwrap_or_default();
    let metrics = metrics(dir)?;
    Ok(object(json!({
        "kind": "run",
        "path": dir.display().to_string(),
        "finished": finished.is_some(),
        "summary": finished,
        "recipe": recipe,
        "metrics_lines": metrics.len(),
        "last_metrics": metrics[metrics.len().saturating_sub(LAST)..],
        "checkpoints": folders(&dir.join("checkpoints"))?,
        "quarantined": folders(&dir.join("quarantine"))?,
    })))
}

fn text(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

/// Every whole line; the last one of a run in progress may be torn.
fn metrics(dir: &Path) -> Result<Vec<Value>, Failure> {
    let text = text(&dir.join("metrics.jsonl"))?.unwrap_or_default();
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Names of the visible folders inside `dir`, sorted.
fn folders(dir: &Path) -> Result<Vec<String>, Failure> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(dir, &error)),
    };
    let names = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort_unstable();
    Ok(names)
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::message(Kind::Run, format!("{}: {error}", path.display()))
}
