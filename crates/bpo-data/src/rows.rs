//! The rows a run is fed with, and the functions that read them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Map;
use serde_json::Value;

use crate::reader::Input::{self, Bytes, File};
use crate::reader::{Row, Source, each_row_in};
use crate::schema;
use crate::{Error, Prompt};

/// A prompt to sample responses for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptRow {
    /// 0-based index among the rows kept.
    pub id: usize,
    /// 1-based line in the source.
    pub line: usize,
    /// What the policy continues.
    pub prompt: Prompt,
    /// A reference response, where the source has one.
    pub reference: Option<String>,
}

/// A prompt with a preferred and a dispreferred response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferenceRow {
    /// 1-based line in the source.
    pub line: usize,
    /// What both responses continue.
    pub prompt: Prompt,
    /// The preferred response.
    pub chosen: String,
    /// The other response.
    pub rejected: String,
}

/// A text to compare with, possibly with the prompt it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceRow {
    /// 1-based line in the source.
    pub line: usize,
    /// What the text answers, where the source says so.
    pub prompt: Option<Prompt>,
    /// The reference text.
    pub text: String,
}

/// A text to fine-tune on: a completion, after a prompt or on its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextRow {
    /// 1-based line in the source.
    pub line: usize,
    /// What the completion continues; `None` for plain `{"text"}` rows.
    pub prompt: Option<Prompt>,
    /// The text that is learned.
    pub completion: String,
}

/// Completions of one prompt, to be compared or scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompletionsRow {
    /// 1-based line in the source.
    pub line: usize,
    /// What the completions continue.
    pub prompt: Prompt,
    /// The prompt as the source spells it, to be passed on unchanged.
    pub given: Value,
    /// The completions, at least one.
    pub completions: Vec<String>,
}

/// Rows kept and, by reason, how many were not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Read<T> {
    /// The rows, in the order of the source.
    pub rows: Vec<T>,
    /// How many rows were left out, by reason.
    pub skipped: BTreeMap<&'static str, usize>,
}

/// Reads prompts, with references where the rows have them.
///
/// Accepted: `prompt` as a string or a message list; `messages`; `conversations` (ShareGPT);
/// `instruction` with optional `input` (Alpaca); `context` with ranked `completions` (NeMo); `chosen` alone or with `rejected` (transcripts
/// `"\n\nHuman: …\n\nAssistant: …"` or message lists). A trailing assistant turn becomes the
/// reference; otherwise `label`, `reference`, `completion`, `response` or `output` is.
///
/// # Errors
/// As [`read_json_rows`](crate::read_json_rows); also a row of no accepted schema, naming its keys.
pub fn read_prompts(path: &Path) -> Result<Vec<PromptRow>, Error> {
    let mut rows = Vec::new();
    each_object(File(path), |line, row| keep_prompt(&mut rows, line, row))?;
    Ok(rows)
}

/// [`read_prompts`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_prompts_from(source: &str, bytes: &[u8]) -> Result<Vec<PromptRow>, Error> {
    let mut rows = Vec::new();
    each_object(Bytes(source, bytes), |line, row| keep_prompt(&mut rows, line, row))?;
    Ok(rows)
}

fn keep_prompt(rows: &mut Vec<PromptRow>, line: usize, row: &Object) -> Result<(), String> {
    let (prompt, reference) = schema::prompt(row)?;
    rows.push(PromptRow { id: rows.len(), line, prompt, reference });
    Ok(())
}

/// Reads preference pairs.
///
/// Accepted: `prompt`, `chosen`, `rejected` as strings or message lists; `chosen` and `rejected`
/// alone, as transcripts or message lists whose common turns are the prompt; `conversations` with
/// `chosen` and `rejected` objects (ShareGPT); `context` with `completions` of `rank` and `completion` (NeMo), of which
/// the best and the worst make the pair. Pairs that differ by more than one last assistant
/// turn each, pairs of identical responses, and completions of one rank are skipped and counted.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_preferences(path: &Path) -> Result<Read<PreferenceRow>, Error> {
    let mut read = Read { rows: Vec::new(), skipped: BTreeMap::new() };
    each_object(File(path), |line, row| keep_preference(&mut read, line, row))?;
    Ok(read)
}

/// [`read_preferences`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_preferences_from(source: &str, bytes: &[u8]) -> Result<Read<PreferenceRow>, Error> {
    let mut read = Read { rows: Vec::new(), skipped: BTreeMap::new() };
    each_object(Bytes(source, bytes), |line, row| keep_preference(&mut read, line, row))?;
    Ok(read)
}

fn keep_preference(read: &mut Read<PreferenceRow>, line: usize, row: &Object) -> Result<(), String> {
    match schema::preference(row)? {
        Ok(schema::Pair { prompt, chosen, rejected }) => {
            read.rows.push(PreferenceRow { line, prompt, chosen, rejected });
        }
        Err(reason) => *read.skipped.entry(reason).or_default() += 1,
    }
    Ok(())
}

/// Reads reference texts: `reference`, `label`, `completion`, `response`, `output`, `chosen` or
/// `text`, or the last assistant turn of a conversation, with the row's prompt if it has one.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_references(path: &Path) -> Result<Vec<ReferenceRow>, Error> {
    let mut rows = Vec::new();
    each_object(File(path), |line, row| keep_reference(&mut rows, line, row))?;
    Ok(rows)
}

/// [`read_references`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_references_from(source: &str, bytes: &[u8]) -> Result<Vec<ReferenceRow>, Error> {
    let mut rows = Vec::new();
    each_object(Bytes(source, bytes), |line, row| keep_reference(&mut rows, line, row))?;
    Ok(rows)
}

fn keep_reference(rows: &mut Vec<ReferenceRow>, line: usize, row: &Object) -> Result<(), String> {
    let (prompt, text) = schema::text(row)?;
    rows.push(ReferenceRow { line, prompt, text });
    Ok(())
}

/// Reads texts for supervised fine-tuning.
///
/// Accepted: `text` alone; a prompt of any schema of [`read_prompts`] with its completion in
/// `completion`, `label`, `response`, `reference`, `output` or `chosen`; `messages` or
/// `conversations` whose last turn is the assistant's.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_texts(path: &Path) -> Result<Vec<TextRow>, Error> {
    let mut rows = Vec::new();
    each_object(File(path), |line, row| keep_text(&mut rows, line, row))?;
    Ok(rows)
}

/// [`read_texts`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_texts_from(source: &str, bytes: &[u8]) -> Result<Vec<TextRow>, Error> {
    let mut rows = Vec::new();
    each_object(Bytes(source, bytes), |line, row| keep_text(&mut rows, line, row))?;
    Ok(rows)
}

fn keep_text(rows: &mut Vec<TextRow>, line: usize, row: &Object) -> Result<(), String> {
    let (prompt, completion) = schema::text(row)?;
    rows.push(TextRow { line, prompt, completion });
    Ok(())
}

/// Reads completions of prompts.
///
/// Accepted: a `prompt` (a string or a message list, which may end with an assistant turn) with
/// several completions in `completions` or `responses`, or with one in `text` (as `bpo generate`
/// writes it), `completion` or `response`. Rows with the same prompt are left apart.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_completions(path: &Path) -> Result<Vec<CompletionsRow>, Error> {
    let mut rows = Vec::new();
    each_object(File(path), |line, row| keep_completions(&mut rows, line, row))?;
    Ok(rows)
}

/// [`read_completions`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_completions_from(source: &str, bytes: &[u8]) -> Result<Vec<CompletionsRow>, Error> {
    let mut rows = Vec::new();
    each_object(Bytes(source, bytes), |line, row| keep_completions(&mut rows, line, row))?;
    Ok(rows)
}

fn keep_completions(rows: &mut Vec<CompletionsRow>, line: usize, row: &Object) -> Result<(), String> {
    let (prompt, given, completions) = schema::completions(row)?;
    rows.push(CompletionsRow { line, prompt, given, completions });
    Ok(())
}

pub(crate) type Object = Map<String, Value>;

/// Feeds each row to `keep` as it is read; a reason it returns becomes an error with its line.
pub(crate) fn each_object(
    input: Input<'_>,
    mut keep: impl FnMut(usize, &Object) -> Result<(), String>,
) -> Result<(), Error> {
    let source = match input {
        File(path) => Source::of_path(path),
        Bytes(name, _) => Source(name.to_owned()),
    };
    let mut keep_row = |Row { line, value }: Row| match &value {
        Value::Object(row) => keep(line, row).map_err(|reason| source.row(line, reason)),
        _ => Ok(()), // the reader yields objects only
    };
    each_row_in(input, &source, &mut keep_row)
}

#[cfg(test)]
mod tests;
