//! Facts about a data file.
use std::path::Path;

use bpo_data::{Error, Row, Tokenizer, read_json_rows, read_preferences, read_prompts, read_texts};
use serde_json::{Map, Value, json};

use super::object;
use crate::{failure::Failure, source::ModelSource};

/// Characters of the first row that are shown.
const SHOWN: usize = 400;

/// Rows, schema, first row, lengths.
pub fn facts(path: &Path, model: Option<&ModelSource>) -> Result<Map<String, Value>, Failure> {
    let rows = read_json_rows(path)?;
    let keys: Vec<&String> = rows[0].value.as_object().into_iter().flat_map(Map::keys).collect();
    let mut facts = object(json!({
        "kind": "data",
        "path": path.display().to_string(),
        "rows": rows.len(),
        "keys": keys,
        "reads_as": reads_as(path, &rows[0]),
        "first_row": shown(&rows[0].value),
    }));
    if let Some(model) = model {
        facts.insert("tokens".into(), tokens(path, &rows, &model.load_tokenizer()?)?);
    }
    Ok(facts)
}

fn shown(row: &Value) -> String {
    let text = row.to_string();
    let cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

fn has(row: &Row, key: &str) -> bool {
    row.value.get(key).is_some_and(|value| !value.is_null())
}

/// What the verbs can make of the whole file; a reason where they cannot.
fn reads_as(path: &Path, first: &Row) -> Value {
    if has(first, "prompt_ids") || has(first, "input_ids") {
        return json!({"ids": "bpo score"});
    }
    let told = |result: Result<String, Error>| result.unwrap_or_else(|error| format!("no: {error}"));
    let mut readings = Map::new();
    let mut tell = |what: &str, result| readings.insert(what.to_owned(), told(result).into());
    tell(
        "prompts",
        read_prompts(path).map(|rows| {
            let references = rows.iter().filter(|row| row.reference.is_some()).count();
            format!("{} rows, {references} with a reference", rows.len())
        }),
    );
    if has(first, "chosen") {
        tell(
            "pairs",
            read_preferences(path).map(|read| {
                let skipped: usize = read.skipped.values().sum();
                format!("{} pairs, {skipped} skipped", read.rows.len())
            }),
        );
    } else {
        tell("texts", read_texts(path).map(|rows| format!("{} texts", rows.len())));
    }
    Value::Object(readings)
}

/// Lengths in tokens of each kind of text in the rows.
fn tokens(path: &Path, rows: &[Row], tokenizer: &Tokenizer) -> Result<Value, Failure> {
    let mut stats = Map::new();
    if let Ok(prompts) = read_prompts(path) {
        let lengths = prompts.iter().map(|row| Ok(tokenizer.encode_prompt(&row.prompt)?.len()));
        stats.insert("prompt".into(), summary(lengths.collect::<Result<_, Failure>>()?));
    }
    let completion = |text: &str| Ok(tokenizer.encode_completion(text, false)?.len());
    if let (true, Ok(pairs)) = (has(&rows[0], "chosen"), read_preferences(path)) {
        for (name, of) in [("chosen", 0), ("rejected", 1)] {
            let lengths = pairs.rows.iter().map(|row| completion([&row.chosen, &row.rejected][of]));
            stats.insert(name.into(), summary(lengths.collect::<Result<_, Failure>>()?));
        }
    } else if let Ok(texts) = read_texts(path) {
        let lengths = texts.iter().map(|row| completion(&row.completion));
        stats.insert("completion".into(), summary(lengths.collect::<Result<_, Failure>>()?));
    }
    Ok(Value::Object(stats))
}

fn summary(mut lengths: Vec<usize>) -> Value {
    lengths.sort_unstable();
    let at = |share: f64| lengths.get(((lengths.len().saturating_sub(1)) as f64 * share) as usize);
    let mean = lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64;
    json!({
        "min": at(0.0), "median": at(0.5), "p95": at(0.95), "max": at(1.0),
        "mean": (mean * 10.0).round() / 10.0,
        "total": lengths.iter().sum::<usize>(),
    })
}
