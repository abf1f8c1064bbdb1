//! Responses that were written before, by whatever program.
use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
};

use bpo_data::{Prompt, ReferenceRow, RowReader};

use crate::failure::Failure;

/// A prompt and its saved response.
pub struct Output {
    line: usize,
    prompt: Prompt,
    response: String,
}

/// A file of saved responses, one for each prompt.
pub struct Saved {
    name: String,
    outputs: Vec<Output>,
    by_prompt: HashMap<String, usize>,
    /// Responses to prompts that have one already.
    pub further: usize,
}

impl Saved {
    /// Reads rows with a prompt and its response: those of `bpo generate --json` and of TRL, message lists, and
    /// `instruction` with `output`. The first response to a prompt is the one that counts.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let (name, reader) = (path.display().to_string(), RowReader::file(path));
        let outputs = match (reader.completions(), reader.texts()) {
            (Ok(read), _) => {
                let first = |row: bpo_data::CompletionsRow| {
                    let (line, prompt) = (row.line, row.prompt);
                    row.completions.into_iter().map(move |response| Output { line, prompt: prompt.clone(), response })
                };
                read.rows.into_iter().flat_map(first).collect()
            }
            (Err(_), Ok(read)) => read.rows.into_iter().map(|row| with_prompt(&name, row)).collect::<Result<_, _>>()?,
            (Err(error), Err(_)) => return Err(error.into()),
        };
        Ok(Self::of(name, outputs))
    }

    fn of(name: String, outputs: Vec<Output>) -> Self {
        let (all, mut by_prompt, mut kept) = (outputs.len(), HashMap::new(), Vec::new());
        for output in outputs {
            if let Entry::Vacant(place) = by_prompt.entry(output.prompt.text()) {
                place.insert(kept.len());
                kept.push(output);
            }
        }
        let further = all - kept.len();
        Self { name, outputs: kept, by_prompt, further }
    }

    /// The file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Prompts with a response.
    pub fn len(&self) -> usize {
        self.outputs.len()
    }

    /// The response to a prompt.
    pub fn response(&self, prompt: &str) -> Option<&str> {
        Some(self.outputs[*self.by_prompt.get(prompt)?].response.as_str())
    }

    /// The prompts as rows to evaluate on, with the texts that `reference` knows; and whether it knows one.
    pub fn rows(&self, reference: impl Fn(&str) -> Option<String>) -> Vec<(ReferenceRow, bool)> {
        let row = |output: &Output| {
            let text = reference(&output.prompt.text());
            let has_text = text.is_some();
            let row =
                ReferenceRow { line: output.line, prompt: Some(output.prompt.clone()), text: text.unwrap_or_default() };
            (row, has_text)
        };
        // Several responses in a row of the file share its line, which is the id of a prompt; but not its prompt.
        self.outputs.iter().map(row).collect()
    }
}

fn with_prompt(name: &str, row: bpo_data::TextRow) -> Result<Output, Failure> {
    let reason = "a saved response needs its prompt".to_owned();
    let missing = || bpo_data::Error::Row { origin: name.to_owned(), line: row.line, reason };
    let prompt = row.prompt.ok_or_else(missing)?;
    Ok(Output { line: row.line, prompt, response: row.completion })
}
