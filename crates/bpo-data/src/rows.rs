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
    /// By how much the one is better, where the source says so (`margin`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
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
    /// Rows that could not be read and were skipped, as [`BadLines::Skip`] asks.
    pub bad: usize,
    /// The first of them: the file, the line and what is wrong with it.
    pub first_bad: Option<String>,
}

impl<T> Default for Read<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), skipped: BTreeMap::new(), bad: 0, first_bad: None }
    }
}

/// What happens to a row that is not JSON, not UTF-8, too long or of no accepted schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BadLines {
    /// Reading ends with an error that names its line.
    #[default]
    Stop,
    /// It is left out and counted. More than one in a hundred rows, and more than one at all, is an error all the same:
    /// such a file is of another kind than it was taken for.
    Skip,
}

/// A source of rows, and how it is read. The functions of this module are the usual ways to use it.
#[derive(Clone, Copy, Debug)]
pub struct RowReader<'a> {
    input: Input<'a>,
    bad_lines: BadLines,
}

impl<'a> RowReader<'a> {
    /// A file.
    pub fn file(path: &'a Path) -> Self {
        Self { input: File(path), bad_lines: BadLines::Stop }
    }

    /// Bytes in memory; `source` names them in errors.
    pub fn bytes(source: &'a str, bytes: &'a [u8]) -> Self {
        Self { input: Bytes(source, bytes), bad_lines: BadLines::Stop }
    }

    /// Says what happens to rows that cannot be read.
    #[must_use]
    pub fn with_bad_lines(self, bad_lines: BadLines) -> Self {
        Self { bad_lines, ..self }
    }

    /// As [`read_prompts`].
    ///
    /// # Errors
    /// As [`read_prompts`]; [`Error::TooManyBad`].
    pub fn prompts(&self) -> Result<Read<PromptRow>, Error> {
        self.all()
    }

    /// As [`read_preferences`].
    ///
    /// # Errors
    /// As [`read_prompts`]; [`Error::TooManyBad`].
    pub fn preferences(&self) -> Result<Read<PreferenceRow>, Error> {
        self.all()
    }

    /// As [`read_references`].
    ///
    /// # Errors
    /// As [`read_prompts`]; [`Error::TooManyBad`].
    pub fn references(&self) -> Result<Read<ReferenceRow>, Error> {
        self.all()
    }

    /// As [`read_texts`].
    ///
    /// # Errors
    /// As [`read_prompts`]; [`Error::TooManyBad`].
    pub fn texts(&self) -> Result<Read<TextRow>, Error> {
        self.all()
    }

    /// As [`read_completions`].
    ///
    /// # Errors
    /// As [`read_prompts`]; [`Error::TooManyBad`].
    pub fn completions(&self) -> Result<Read<CompletionsRow>, Error> {
        self.all()
    }

    /// All rows, as those of one kind.
    ///
    /// # Errors
    /// As [`read_prompts`]; [`Error::TooManyBad`].
    pub fn all<T: FromRow>(&self) -> Result<Read<T>, Error> {
        let mut rows = Vec::new();
        let read = self.each(|row| {
            rows.push(row);
            Ok::<_, Error>(())
        })?;
        Ok(Read { rows, ..read })
    }

    /// As [`all`](Self::all), a row at a time: `each` has it before the next one is read, and what it returns ends the
    /// reading. The rows of the answer are none.
    ///
    /// # Errors
    /// As [`all`](Self::all), and those of `each`.
    pub fn each<T: FromRow, E: From<Error>>(&self, mut each: impl FnMut(T) -> Result<(), E>) -> Result<Read<T>, E> {
        let mut kept = 0;
        self.read(|read, line, object| match T::from_row(kept, line, object) {
            Ok(Ok(row)) => {
                kept += 1;
                each(row).map_err(Refused::End)
            }
            Ok(Err(reason)) => {
                *read.skipped.entry(reason).or_default() += 1;
                Ok(())
            }
            Err(reason) => Err(Refused::Row(reason)),
        })
    }

    /// As [`each`](Self::each) of texts.
    ///
    /// # Errors
    /// As [`read_texts`], and those of `each`.
    pub fn each_text<E: From<Error>>(&self, each: impl FnMut(TextRow) -> Result<(), E>) -> Result<Read<TextRow>, E> {
        self.each(each)
    }

    /// As [`each`](Self::each) of completions.
    ///
    /// # Errors
    /// As [`read_completions`], and those of `each`.
    pub fn each_completions<E: From<Error>>(
        &self,
        each: impl FnMut(CompletionsRow) -> Result<(), E>,
    ) -> Result<Read<CompletionsRow>, E> {
        self.each(each)
    }

    /// As [`each`](Self::each) of prompts.
    ///
    /// # Errors
    /// As [`read_prompts`], and those of `each`.
    pub fn each_prompt<E: From<Error>>(
        &self,
        each: impl FnMut(PromptRow) -> Result<(), E>,
    ) -> Result<Read<PromptRow>, E> {
        self.each(each)
    }

    /// Every row as the JSON object that it is, a row at a time.
    ///
    /// # Errors
    /// As [`read_json_rows`](crate::read_json_rows), and those of `each`.
    pub fn each_object<E: From<Error>>(&self, mut each: impl FnMut(Row) -> Result<(), E>) -> Result<(), E> {
        each_row_in(self.input, &self.source(), &mut |row| each(row?))
    }

    fn source(&self) -> Source {
        match self.input {
            File(path) => Source::of_path(path),
            Bytes(name, _) => Source(name.to_owned()),
        }
    }

    /// Feeds each row to `keep` as it is read.
    fn read<T, E: From<Error>>(
        &self,
        mut keep: impl FnMut(&mut Read<T>, usize, &Object) -> Result<(), Refused<E>>,
    ) -> Result<Read<T>, E> {
        let source = self.source();
        let (mut read, mut total) = (Read::default(), 0);
        let mut keep_row = |row: Result<Row, Error>| -> Result<(), E> {
            total += 1;
            let kept = match row {
                Ok(Row { line, value: Value::Object(row) }) => match keep(&mut read, line, &row) {
                    Err(Refused::Row(reason)) => Err(source.row(line, reason)),
                    Err(Refused::End(error)) => return Err(error),
                    Ok(()) => Ok(()),
                },
                Ok(_) => Ok(()), // the reader yields objects only
                Err(error) => Err(error),
            };
            match kept {
                Err(bad @ Error::Row { .. }) if self.bad_lines == BadLines::Skip => {
                    read.bad += 1;
                    read.first_bad.get_or_insert_with(|| bad.to_string());
                    Ok(())
                }
                kept => Ok(kept?),
            }
        };
        each_row_in(self.input, &source, &mut keep_row)?;
        match &read.first_bad {
            Some(first) if read.bad > 1 && read.bad * 100 > total => {
                Err(Error::TooManyBad { bad: read.bad, total, first: first.clone() }.into())
            }
            _ => Ok(read),
        }
    }
}

/// Why a row was not kept.
enum Refused<E> {
    /// It is none of its kind, for this reason.
    Row(String),
    /// Whoever has the rows wants no more.
    End(E),
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
    Ok(RowReader::file(path).prompts()?.rows)
}

/// [`read_prompts`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_prompts_from(source: &str, bytes: &[u8]) -> Result<Vec<PromptRow>, Error> {
    Ok(RowReader::bytes(source, bytes).prompts()?.rows)
}

/// Reads preference pairs.
///
/// Accepted: `prompt`, `chosen`, `rejected` as strings or message lists; `chosen` and `rejected`
/// alone, as transcripts or message lists whose common turns are the prompt; `conversations` with
/// `chosen` and `rejected` objects (ShareGPT); `context` with `completions` of `rank` and `completion` (NeMo), of which
/// the best and the worst make the pair. Pairs that differ by more than one last assistant
/// turn each, pairs of identical responses, and completions of one rank are skipped and counted.
/// A `margin` beside them, a number, is kept.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_preferences(path: &Path) -> Result<Read<PreferenceRow>, Error> {
    RowReader::file(path).preferences()
}

/// [`read_preferences`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_preferences_from(source: &str, bytes: &[u8]) -> Result<Read<PreferenceRow>, Error> {
    RowReader::bytes(source, bytes).preferences()
}

/// Reads reference texts: `reference`, `label`, `completion`, `response`, `output`, `chosen` or
/// `text`, or the last assistant turn of a conversation, with the row's prompt if it has one.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_references(path: &Path) -> Result<Vec<ReferenceRow>, Error> {
    Ok(RowReader::file(path).references()?.rows)
}

/// [`read_references`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_references_from(source: &str, bytes: &[u8]) -> Result<Vec<ReferenceRow>, Error> {
    Ok(RowReader::bytes(source, bytes).references()?.rows)
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
    Ok(RowReader::file(path).texts()?.rows)
}

/// [`read_texts`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_texts_from(source: &str, bytes: &[u8]) -> Result<Vec<TextRow>, Error> {
    Ok(RowReader::bytes(source, bytes).texts()?.rows)
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
    Ok(RowReader::file(path).completions()?.rows)
}

/// [`read_completions`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_completions_from(source: &str, bytes: &[u8]) -> Result<Vec<CompletionsRow>, Error> {
    Ok(RowReader::bytes(source, bytes).completions()?.rows)
}

pub(crate) type Object = Map<String, Value>;

/// A kind of row, as a JSON object of any source can be read.
pub trait FromRow: Sized {
    /// The row `line` as one of this kind, `index` of them being kept already; or why it is left out and counted, which
    /// is no error.
    ///
    /// # Errors
    /// What is wrong with it, without its contents.
    fn from_row(index: usize, line: usize, row: &Map<String, Value>) -> Result<Result<Self, &'static str>, String>;

    /// Bytes of its texts.
    fn bytes(&self) -> usize;
}

impl FromRow for PromptRow {
    fn from_row(id: usize, line: usize, row: &Object) -> Result<Result<Self, &'static str>, String> {
        let (prompt, reference) = schema::prompt(row)?;
        Ok(Ok(Self { id, line, prompt, reference }))
    }

    fn bytes(&self) -> usize {
        self.prompt.bytes() + self.reference.as_ref().map_or(0, String::len)
    }
}

impl FromRow for PreferenceRow {
    fn from_row(_: usize, line: usize, row: &Object) -> Result<Result<Self, &'static str>, String> {
        Ok(match schema::preference(row)? {
            Ok(schema::Pair { prompt, chosen, rejected }) => {
                Ok(Self { line, prompt, chosen, rejected, margin: schema::number(row, "margin")? })
            }
            Err(reason) => Err(reason),
        })
    }

    fn bytes(&self) -> usize {
        self.prompt.bytes() + self.chosen.len() + self.rejected.len()
    }
}

impl FromRow for ReferenceRow {
    fn from_row(_: usize, line: usize, row: &Object) -> Result<Result<Self, &'static str>, String> {
        let (prompt, text) = schema::text(row)?;
        Ok(Ok(Self { line, prompt, text }))
    }

    fn bytes(&self) -> usize {
        self.prompt.as_ref().map_or(0, Prompt::bytes) + self.text.len()
    }
}

impl FromRow for TextRow {
    fn from_row(_: usize, line: usize, row: &Object) -> Result<Result<Self, &'static str>, String> {
        let (prompt, completion) = schema::text(row)?;
        Ok(Ok(Self { line, prompt, completion }))
    }

    fn bytes(&self) -> usize {
        self.prompt.as_ref().map_or(0, Prompt::bytes) + self.completion.len()
    }
}

impl FromRow for CompletionsRow {
    fn from_row(_: usize, line: usize, row: &Object) -> Result<Result<Self, &'static str>, String> {
        let (prompt, given, completions) = schema::completions(row)?;
        Ok(Ok(Self { line, prompt, given, completions }))
    }

    fn bytes(&self) -> usize {
        self.prompt.bytes() + self.completions.iter().map(String::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
