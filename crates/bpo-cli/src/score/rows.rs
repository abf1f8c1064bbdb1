//! The rows that are scored: ids as they are, text through a tokenizer.
use std::path::Path;

use bpo_data::{Error, PairIds, Prompt, Row, TextRow, Tokenizer};
use serde_json::Value;

use crate::{
    data::RowSource,
    failure::{Failure, warn},
};

/// A prompt and its response in ids.
#[derive(Debug)]
pub struct Sequence {
    /// Line in the input.
    pub line: usize,
    /// What the response continues.
    pub prompt: Vec<u32>,
    /// What is scored.
    pub response: Vec<u32>,
}

impl Sequence {
    /// Tokens of prompt and response.
    pub fn length(&self) -> usize {
        self.prompt.len() + self.response.len()
    }
}

/// The rows of a file or of standard input, read anew each time they are asked for, and their name in errors.
pub struct RowFile {
    name: String,
    source: RowSource,
    /// How many rows there are.
    pub len: usize,
    /// Whether any row holds ids, so that all have to.
    pub holds_ids: bool,
}

impl RowFile {
    /// Opens a file, or with `-` standard input, and reads it through: all rows are JSON objects, and hold ids under one
    /// of `keys`, or are text.
    pub fn open(path: &Path, keys: &[&str]) -> Result<Self, Failure> {
        let source = RowSource::open(path)?;
        let (mut len, mut holds_ids) = (0, false);
        source.reader().each_object(|row| -> Result<(), Failure> {
            len += 1;
            holds_ids |= keys.iter().any(|key| row.value.get(key).is_some());
            Ok(())
        })?;
        Ok(Self { name: source.name(path), source, len, holds_ids })
    }

    /// Gives every row to `each`, as a JSON object.
    pub fn each_object(&self, each: impl FnMut(Row) -> Result<(), Failure>) -> Result<(), Failure> {
        self.source.reader().each_object(each)
    }

    /// Gives every row to `each`, as text.
    fn each_text(&self, each: impl FnMut(TextRow) -> Result<(), Failure>) -> Result<(), Failure> {
        self.source.reader().each_text(each).map(drop)
    }

    /// Gives every row of text to `each`, as ids.
    pub fn each_encoded(
        &self,
        tokenizer: &Tokenizer,
        append_eos: bool,
        mut each: impl FnMut(Sequence) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.each_text(|row| {
            let prompt = row.prompt.unwrap_or_else(|| Prompt::Text(String::new()));
            let encoded = tokenizer.encode_prompt(&prompt).and_then(|prompt| {
                Ok(Sequence {
                    line: row.line,
                    prompt,
                    response: tokenizer.encode_completion(&row.completion, append_eos)?,
                })
            });
            each(encoded.map_err(|error| self.error(row.line, error.to_string()))?)
        })
    }

    /// Gives every row of text to `each` as a pair of prompt and response, by the tokenizer's own template, with its line.
    pub fn each_pair(
        &self,
        tokenizer: &Tokenizer,
        mut each: impl FnMut(usize, PairIds) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.each_text(|row| {
            let prompt = row.prompt.map(|prompt| prompt.text()).unwrap_or_default();
            let pair = tokenizer.encode_pair(&prompt, &row.completion, None);
            each(row.line, pair.map_err(|error| self.error(row.line, error.to_string()))?)
        })
    }

    /// An error at a line of the input.
    pub fn error(&self, line: usize, reason: impl Into<String>) -> Failure {
        Error::Row { origin: self.name.clone(), line, reason: reason.into() }.into()
    }

    /// Says that a row is longer than the positions the model was trained for.
    pub fn warn_of_long(&self, line: usize, tokens: usize, context: usize) {
        warn(&format!("{}:{line}: {tokens} tokens; the model was trained for {context} positions", self.name));
    }

    /// The ids under `key`, all below `vocab`.
    pub fn ids(&self, row: &Row, key: &str, vocab: usize) -> Result<Vec<u32>, Failure> {
        let list = row.value.get(key).and_then(Value::as_array);
        let list = list.ok_or_else(|| self.error(row.line, format!("`{key}` must be a list of token ids")))?;
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids: Option<Vec<u32>> = list.iter().map(id).collect();
        let ids = ids.ok_or_else(|| self.error(row.line, format!("`{key}` must hold whole numbers from 0 up")))?;
        self.check_ids(row.line, key, &ids, vocab)?;
        Ok(ids)
    }

    /// Refuses ids that the model does not have.
    fn check_ids(&self, line: usize, key: &str, ids: &[u32], vocab: usize) -> Result<(), Failure> {
        match ids.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => {
                Err(self.error(line, format!("`{key}` holds {id}; the model's vocabulary has {vocab} entries")))
            }
            None => Ok(()),
        }
    }
}
