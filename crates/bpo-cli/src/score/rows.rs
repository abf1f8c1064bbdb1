//! The rows that are scored: ids as they are, text through a tokenizer.
use std::{io::Read, path::Path};

use bpo_data::{Error, PairIds, Prompt, Row, TextRow, Tokenizer, read_json_rows_from, read_texts_from};
use serde_json::Value;

use crate::failure::{Failure, io_failure, warn};

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

/// The bytes of a file or of standard input, and their name in errors.
pub struct RowFile {
    name: String,
    bytes: Vec<u8>,
}

impl RowFile {
    /// Reads a file; `-` is standard input.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        if path == Path::new("-") {
            let name = "(standard input)";
            std::io::stdin().lock().read_to_end(&mut bytes).map_err(|e| io_failure(Path::new(name), &e))?;
            return Ok(Self { name: name.to_owned(), bytes });
        }
        bytes = std::fs::read(path).map_err(|error| io_failure(path, &error))?;
        Ok(Self { name: path.display().to_string(), bytes })
    }

    /// Every row as a JSON object.
    pub fn objects(&self) -> Result<Vec<Row>, Failure> {
        Ok(read_json_rows_from(&self.name, &self.bytes)?)
    }

    /// Every row of text.
    pub fn texts(&self) -> Result<Vec<TextRow>, Failure> {
        Ok(read_texts_from(&self.name, &self.bytes)?)
    }

    /// Every row of text as ids.
    pub fn encode(&self, tokenizer: &Tokenizer, append_eos: bool) -> Result<Vec<Sequence>, Failure> {
        let encode = |row: TextRow| {
            let prompt = row.prompt.unwrap_or_else(|| Prompt::Text(String::new()));
            let encoded = tokenizer.encode_prompt(&prompt).and_then(|prompt| {
                Ok(Sequence {
                    line: row.line,
                    prompt,
                    response: tokenizer.encode_completion(&row.completion, append_eos)?,
                })
            });
            encoded.map_err(|error| self.error(row.line, error.to_string()))
        };
        self.texts()?.into_iter().map(encode).collect()
    }

    /// Every row of text as a pair of prompt and response, by the tokenizer's own template, with its line.
    pub fn pairs(&self, tokenizer: &Tokenizer) -> Result<Vec<(usize, PairIds)>, Failure> {
        let encode = |row: bpo_data::TextRow| {
            let prompt = row.prompt.map(|prompt| prompt.text()).unwrap_or_default();
            let pair = tokenizer.encode_pair(&prompt, &row.completion, None);
            pair.map(|pair| (row.line, pair)).map_err(|error| self.error(row.line, error.to_string()))
        };
        read_texts_from(&self.name, &self.bytes)?.into_iter().map(encode).collect()
    }

    /// An error at a line of the input.
    pub fn error(&self, line: usize, reason: impl Into<String>) -> Failure {
        Error::Row { origin: self.name.clone(), line, reason: reason.into() }.into()
    }

    /// Says so, once, where a row of `(line, tokens)` is longer than the positions the model was trained for.
    pub fn warn_of_long(&self, mut rows: impl Iterator<Item = (usize, usize)>, context: usize) {
        if let Some((line, tokens)) = rows.find(|&(_, tokens)| tokens > context) {
            warn(&format!("{}:{line}: {tokens} tokens; the model was trained for {context} positions", self.name));
        }
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

/// Whether rows hold the ids themselves, under one of `keys`.
pub fn hold_ids(rows: &[Row], keys: &[&str]) -> bool {
    rows.iter().any(|row| keys.iter().any(|key| row.value.get(key).is_some()))
}
