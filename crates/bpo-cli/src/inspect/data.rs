//! Facts about a data file.
use std::path::Path;

use bpo_data::{Error, Limits, Row, Tokenizer, held_out, read_json_rows, read_preferences, read_prompts, read_texts};
use serde_json::{Map, Value, json};

use super::{
    InspectArgs, object,
    sample::{self, Text},
};
use crate::{failure::Failure, source::ModelSource};

/// Characters of the first row that are shown.
const SHOWN: usize = 400;

/// What a tokenizer makes of a file.
pub struct Tokenized {
    tokenizer: Tokenizer,
    texts: Vec<Text>,
    row: usize,
}

impl Tokenized {
    /// The row that is shown, and what shows it.
    pub fn sample(&self) -> (&Text, &Tokenizer) {
        (&self.texts[self.row], &self.tokenizer)
    }
}

/// Rows, schema, first row; with a model lengths, what fits, and a row in ids.
pub fn facts(args: &InspectArgs) -> Result<(Map<String, Value>, Option<Tokenized>), Failure> {
    let path: &Path = &args.path;
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
    let Some(model) = &args.model else { return Ok((facts, None)) };
    let tokenizer = model.load_tokenizer()?;
    facts.insert("tokens".into(), tokens(path, &rows, &tokenizer)?);
    let texts = texts(path, &rows)?;
    let Some(row) = args.row.checked_sub(1).filter(|row| *row < texts.len()) else {
        return Err(Failure::usage(format!("--row {}: there are rows 1 to {}", args.row, texts.len())));
    };
    let limits = limits(args, model);
    facts.insert("split".into(), split(&texts, row, args.seed));
    facts.insert("fitting".into(), sample::fitting(&texts, &tokenizer, &limits)?);
    facts.insert("sample".into(), sample::facts(&texts[row], &tokenizer)?);
    Ok((facts, Some(Tokenized { tokenizer, texts, row })))
}

/// Which rows `bpo train` holds out, by their prompts' text: the same ones on every machine, in whatever order.
fn split(texts: &[Text], row: usize, seed: u64) -> Value {
    let is_held_out = |text: &Text| {
        let prompt = text.prompt.as_ref()?;
        Some(held_out(&prompt.text(), seed, bpo_train::HELD_OUT))
    };
    let sides: Vec<Option<bool>> = texts.iter().map(is_held_out).collect();
    let count = |side| sides.iter().filter(|found| **found == Some(side)).count();
    let shown = match sides[row] {
        Some(true) => "held out",
        Some(false) => "training",
        None => "no prompt: never held out",
    };
    json!({"seed": seed, "training": count(false), "held_out": count(true), "shown_row": shown})
}

/// What was asked for, or else the context that the model was trained with.
fn limits(args: &InspectArgs, model: &ModelSource) -> Limits {
    let context = model.load_config().ok().map(|config| config.max_position_embeddings);
    Limits { max_length: args.max_length.or(context), max_prompt_length: args.max_prompt_length, ..Limits::default() }
}

/// The rows as pairs, or as texts, or as prompts: the first that they can be read as.
fn texts(path: &Path, rows: &[Row]) -> Result<Vec<Text>, Failure> {
    if (has(&rows[0], "chosen") || has(&rows[0], "completions"))
        && let Ok(pairs) = read_preferences(path)
        && !pairs.rows.is_empty()
    {
        let text = |row: bpo_data::PreferenceRow| Text {
            line: row.line,
            prompt: Some(row.prompt),
            completions: vec![("chosen", row.chosen), ("rejected", row.rejected)],
        };
        return Ok(pairs.rows.into_iter().map(text).collect());
    }
    if let Ok(texts) = read_texts(path) {
        let text = |row: bpo_data::TextRow| Text {
            line: row.line,
            prompt: row.prompt,
            completions: vec![("completion", row.completion)],
        };
        return Ok(texts.into_iter().map(text).collect());
    }
    let text = |row: bpo_data::PromptRow| Text { line: row.line, prompt: Some(row.prompt), completions: Vec::new() };
    Ok(read_prompts(path)?.into_iter().map(text).collect())
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
    if has(first, "chosen") || has(first, "completions") {
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
    if let (true, Ok(pairs)) = (has(&rows[0], "chosen") || has(&rows[0], "completions"), read_preferences(path)) {
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
