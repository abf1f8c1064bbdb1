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
        self.read(|read, line, row| {
            let (prompt, reference) = schema::prompt(row)?;
            read.rows.push(PromptRow { id: read.rows.len(), line, prompt, reference });
            Ok(())
        })
    }

    /// As [`read_preferences`].
    ///
    /// # Errors
    /// As [`read_prompts`]; [`Error::TooManyBad`].
    pub fn preferences(&self) -> Result<Read<PreferenceRow>, Error> {
        self.read(|read, line, row| {
            match schema::preference(row)? {
                Ok(schema::Pair { prompt, chosen, rejected }) => {
                    let margin = schema::number(row, "margin")?;
                    read.rows.push(PreferenceRow { line, prompt, chosen, rejected, margin });
                }
                Err(reason) => *read.skipped.entry(reason).or_default() += 1,
            }
            Ok(())
        })
    }

    /// As [`read_references`].
    ///
    /// # Errors
    /// As [`read_prompts`]; [`Error::TooManyBad`].
    pub fn references(&self) -> Result<Read<ReferenceRow>, Error> {
        self.read(|read, line, row| {
            let (prompt, text) = schema::text(row)?;
            read.rows.push(ReferenceRow { line, prompt, text });
            Ok(())
        })
    }

    /// As [`read_texts`].
    ///
    /// # Errors
    /// As [`read_prompts`]; [`Error::TooManyBad`].
    pub fn texts(&self) -> Result<Read<TextRow>, Error> {
        self.read(|read, line, row| {
            let (prompt, completion) = schema::text(row)?;
            read.rows.push(TextRow { line, prompt, completion });
            Ok(())
        })
    }

    /// As [`read_completions`].
    ///
    /// # Errors
    /// As [`read_prompts`]; [`Error::TooManyBad`].
    pub fn completions(&self) -> Result<Read<CompletionsRow>, Error> {
        self.read(|read, line, row| {
            let (prompt, given, completions) = schema::completions(row)?;
            read.rows.push(CompletionsRow { line, prompt, given, completions });
            Ok(())
        })
    }

    /// As [`texts`](Self::texts), a row at a time: `each` has it before the next one is read, and what it returns ends the
    /// reading. The rows of the answer are none.
    ///
    /// # Errors
    /// As [`read_texts`], and those of `each`.
    pub fn each_text<E: From<Error>>(&self, each: impl FnMut(TextRow) -> Result<(), E>) -> Result<Read<TextRow>, E> {
        self.each(each, |line, row| {
            let (prompt, completion) = schema::text(row)?;
            Ok(TextRow { line, prompt, completion })
        })
    }

    /// As [`completions`](Self::completions), a row at a time.
    ///
    /// # Errors
    /// As [`read_completions`], and those of `each`.
    pub fn each_completions<E: From<Error>>(
        &self,
        each: impl FnMut(CompletionsRow) -> Result<(), E>,
    ) -> Result<Read<CompletionsRow>, E> {
        self.each(each, |line, row| {
            let (prompt, given, completions) = schema::completions(row)?;
            Ok(CompletionsRow { line, prompt, given, completions })
        })
    }

    /// As [`prompts`](Self::prompts), a row at a time.
    ///
    /// # Errors
    /// As [`read_prompts`], and those of `each`.
    pub fn each_prompt<E: From<Error>>(
        &self,
        each: impl FnMut(PromptRow) -> Result<(), E>,
    ) -> Result<Read<PromptRow>, E> {
        let mut id = 0;
        self.each(each, |line, row| {
            let (prompt, reference) = schema::prompt(row)?;
            id += 1;
            Ok(PromptRow { id: id - 1, line, prompt, reference })
        })
    }

    fn each<T, E: From<Error>>(
        &self,
        mut each: impl FnMut(T) -> Result<(), E>,
        mut row: impl FnMut(usize, &Object) -> Result<T, String>,
    ) -> Result<Read<T>, E> {
        // The reader ends with an error of its own kind; which one it was is kept here.
        let mut ended = None;
        let read = self.read(|_, line, object| {
            // Where bad rows are skipped the reading goes on, but `each` has ended it.
            if ended.is_none() {
                ended = each(row(line, object)?).err();
            }
            if ended.is_some() { Err(String::new()) } else { Ok(()) }
        });
        ended.map_or_else(|| Ok(read?), Err)
    }

    /// Feeds each row to `keep` as it is read; a reason it returns becomes an error with the row's line.
    pub(crate) fn read<T>(
        &self,
        mut keep: impl FnMut(&mut Read<T>, usize, &Object) -> Result<(), String>,
    ) -> Result<Read<T>, Error> {
        let source = match self.input {
            File(path) => Source::of_path(path),
            Bytes(name, _) => Source(name.to_owned()),
        };
        let (mut read, mut total) = (Read::default(), 0);
        let mut keep_row = |row: Result<Row, Error>| {
            total += 1;
            let kept = row.and_then(|Row { line, value }| match &value {
                Value::Object(row) => keep(&mut read, line, row).map_err(|reason| source.row(line, reason)),
                _ => Ok(()), // the reader yields objects only
            });
            match kept {
                Err(bad @ Error::Row { .. }) if self.bad_lines == BadLines::Skip => {
                    read.bad += 1;
                    read.first_bad.get_or_insert_with(|| bad.to_string());
                    Ok(())
                }
                kept => kept,
            }
        };
        each_row_in(self.input, &source, &mut keep_row)?;
        match &read.first_bad {
            Some(first) if read.bad > 1 && read.bad * 100 > total => {
                Err(Error::TooManyBad { bad: read.bad, total, first: first.clone() })
            }
            _ => Ok(read),
        }
    }
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

#[cfg(test)]
mod tests;
