//! Facts about a data file, which is read several times and never held.
use std::{collections::BTreeMap, path::Path};

use bpo_data::{Error, FromRow, Limits, PreferenceRow, PromptRow, Row, RowReader, TextRow, Tokenizer, held_out};
use serde_json::{Map, Value, json};

use super::{
    InspectArgs, object,
    sample::{self, Fitting, Text},
};
use crate::{failure::Failure, source::ModelSource};

/// Characters of the first row that are shown.
const SHOWN: usize = 400;

/// What a tokenizer makes of a row.
pub struct Tokenized {
    tokenizer: Tokenizer,
    row: Text,
}

impl Tokenized {
    /// The row that is shown, and what shows it.
    pub fn sample(&self) -> (&Text, &Tokenizer) {
        (&self.row, &self.tokenizer)
    }
}

/// Rows, schema, first row; with a model lengths, what fits, and a row in ids.
pub fn facts(args: &InspectArgs) -> Result<(Map<String, Value>, Option<Tokenized>), Failure> {
    let path: &Path = &args.path;
    let (mut first, mut rows) = (None, 0);
    RowReader::file(path).each_object(|row| {
        first.get_or_insert(row);
        rows += 1;
        Ok::<_, Error>(())
    })?;
    // A file without rows is an error of the reader's.
    let first = first.unwrap_or(Row { line: 1, value: Value::Null });
    let keys: Vec<&String> = first.value.as_object().into_iter().flat_map(Map::keys).collect();
    let mut facts = object(json!({
        "kind": "data",
        "path": path.display().to_string(),
        "rows": rows,
        "keys": keys,
        "reads_as": reads_as(path, &first),
        "first_row": shown(&first.value),
    }));
    let Some(model) = &args.model else { return Ok((facts, None)) };
    let tokenizer = model.load_tokenizer()?;
    facts.insert("tokens".into(), tokens(path, &first, &tokenizer)?);
    let kind = Kind::of(path, &first);
    let mut fitting = Fitting::new(limits(args, model));
    let (mut sides, mut shown, mut index) = ([0, 0], None, 0);
    kind.each(path, |text| {
        index += 1;
        let side = side(&text, args.seed);
        if let Some(is_held_out) = side {
            sides[usize::from(is_held_out)] += 1;
        }
        fitting.add(&text, &tokenizer)?;
        if index == args.row {
            shown = Some((text, side));
        }
        Ok(())
    })?;
    let Some((row, side)) = shown else {
        return Err(Failure::usage(format!("--row {}: there are rows 1 to {index}", args.row)));
    };
    let side = match side {
        Some(true) => "held out",
        Some(false) => "training",
        None => "no prompt: never held out",
    };
    let [training, held_out] = sides;
    let split = json!({"seed": args.seed, "training": training, "held_out": held_out, "shown_row": side});
    facts.insert("split".into(), split);
    facts.insert("fitting".into(), fitting.told());
    facts.insert("sample".into(), sample::facts(&row, &tokenizer)?);
    Ok((facts, Some(Tokenized { tokenizer, row })))
}

/// Whether `bpo train` holds a row out, by its prompt's text: the same ones on every machine, in whatever order.
fn side(text: &Text, seed: u64) -> Option<bool> {
    let prompt = text.prompt.as_ref()?;
    Some(held_out(&prompt.text(), seed, bpo_train::HELD_OUT))
}

/// What was asked for, or else the context that the model was trained with.
fn limits(args: &InspectArgs, model: &ModelSource) -> Limits {
    let context = model.load_config().ok().map(|config| config.max_position_embeddings);
    Limits { max_length: args.max_length.or(context), max_prompt_length: args.max_prompt_length, ..Limits::default() }
}

/// What rows are read as.
#[derive(Clone, Copy)]
enum Kind {
    Pairs,
    Texts,
    Prompts,
}

impl Kind {
    /// Pairs, or texts, or prompts: the first that the rows can be read as.
    fn of(path: &Path, first: &Row) -> Self {
        match () {
            () if has_pairs(first) && count::<PreferenceRow>(path).is_ok_and(|(pairs, _)| pairs > 0) => Self::Pairs,
            () if count::<TextRow>(path).is_ok() => Self::Texts,
            () => Self::Prompts,
        }
    }

    fn each(self, path: &Path, mut each: impl FnMut(Text) -> Result<(), Failure>) -> Result<(), Failure> {
        let reader = RowReader::file(path);
        match self {
            Self::Pairs => drop(reader.each(|row: PreferenceRow| {
                let completions = vec![("chosen", row.chosen), ("rejected", row.rejected)];
                each(Text { line: row.line, prompt: Some(row.prompt), completions })
            })?),
            Self::Texts => drop(reader.each(|row: TextRow| {
                each(Text { line: row.line, prompt: row.prompt, completions: vec![("completion", row.completion)] })
            })?),
            Self::Prompts => drop(reader.each(|row: PromptRow| {
                each(Text { line: row.line, prompt: Some(row.prompt), completions: Vec::new() })
            })?),
        }
        Ok(())
    }
}

fn has_pairs(first: &Row) -> bool {
    has(first, "chosen") || has(first, "completions")
}

/// Rows of a kind, and how many were left out for which reason.
fn count<T: FromRow>(path: &Path) -> Result<(usize, BTreeMap<&'static str, usize>), Error> {
    let mut rows = 0;
    let read = RowReader::file(path).each(|_: T| {
        rows += 1;
        Ok::<_, Error>(())
    })?;
    Ok((rows, read.skipped))
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
    let (mut rows, mut references) = (0, 0);
    let prompts = RowReader::file(path).each_prompt(|row| {
        (rows, references) = (rows + 1, references + usize::from(row.reference.is_some()));
        Ok::<_, Error>(())
    });
    tell("prompts", prompts.map(|_| format!("{rows} rows, {references} with a reference")));
    if has_pairs(first) {
        let reasons = |skipped: BTreeMap<&str, usize>| {
            skipped.into_iter().map(|(reason, count)| format!("; {count} skipped: {reason}")).collect::<String>()
        };
        let told = |(rows, skipped)| format!("{rows} pairs{}", reasons(skipped));
        tell("pairs", count::<PreferenceRow>(path).map(told));
    } else {
        tell("texts", count::<TextRow>(path).map(|(rows, _)| format!("{rows} texts")));
    }
    Value::Object(readings)
}

/// Lengths in tokens of each kind of text in the rows.
fn tokens(path: &Path, first: &Row, tokenizer: &Tokenizer) -> Result<Value, Failure> {
    let mut stats = Map::new();
    if count::<PromptRow>(path).is_ok() {
        let mut lengths = Vec::new();
        RowReader::file(path).each_prompt(|row| {
            lengths.push(tokenizer.encode_prompt(&row.prompt)?.len());
            Ok::<_, Failure>(())
        })?;
        stats.insert("prompt".into(), summary(lengths));
    }
    let length = |text: &str| Ok::<_, Failure>(tokenizer.encode_completion(text, false)?.len());
    if has_pairs(first) && count::<PreferenceRow>(path).is_ok() {
        let (mut chosen, mut rejected) = (Vec::new(), Vec::new());
        RowReader::file(path).each(|row: PreferenceRow| {
            chosen.push(length(&row.chosen)?);
            rejected.push(length(&row.rejected)?);
            Ok::<_, Failure>(())
        })?;
        stats.insert("chosen".into(), summary(chosen));
        stats.insert("rejected".into(), summary(rejected));
    } else if count::<TextRow>(path).is_ok() {
        let mut lengths = Vec::new();
        RowReader::file(path).each_text(|row| {
            lengths.push(length(&row.completion)?);
            Ok::<_, Failure>(())
        })?;
        stats.insert("completion".into(), summary(lengths));
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
