//! The prompts, in ids.
use bpo_data::{Error, Message, Prompt, PromptRow, RowReader, Tokenizer};
use bpo_store::RowFile;
use serde::{Deserialize, Serialize};

use super::GenerateArgs;
use crate::{embedded, failure::Failure};

/// A prompt as it was given and as the model reads it.
#[derive(Serialize, Deserialize)]
pub struct Asked {
    /// 0-based index of its row.
    pub id: usize,
    /// As given.
    pub prompt: Prompt,
    /// As read.
    pub ids: Vec<u32>,
}

/// Reads and encodes what is asked for, a row at a time, and keeps it on disk; every prompt leaves room for a token in
/// `context`.
pub fn read(args: &GenerateArgs, tokenizer: &Tokenizer, context: usize) -> Result<RowFile<Asked>, Failure> {
    let mut asked = RowFile::temporary();
    let mut encode = |origin: &str, row: PromptRow| -> Result<(), Failure> {
        Ok(asked.push(&encoded(row, origin, tokenizer, context)?)?)
    };
    match (&args.prompt, &args.prompts) {
        (Some(text), _) => encode("--prompt", typed(text, args.raw, tokenizer))?,
        (None, Some(path)) => {
            let name = path.display().to_string();
            let rows = match name == embedded::NAME {
                true => RowReader::bytes(embedded::NAME, embedded::PROMPTS),
                false => RowReader::file(path),
            };
            rows.each_prompt(|row| encode(&name, row))?;
        }
        (None, None) => return Err(Failure::usage("one of --prompt and --prompts is needed")),
    }
    Ok(asked)
}

/// The prompts in their order, so many at a time.
pub fn windows(asked: &RowFile<Asked>, size: usize) -> impl Iterator<Item = Result<Vec<Asked>, Failure>> {
    (0..asked.len()).step_by(size).map(move |start| Ok(asked.some(start..asked.len().min(start + size))?))
}

fn encoded(row: PromptRow, origin: &str, tokenizer: &Tokenizer, context: usize) -> Result<Asked, Failure> {
    let fail = |reason| Failure::from(Error::Row { origin: origin.to_owned(), line: row.line, reason });
    let ids = tokenizer.encode_prompt(&row.prompt).map_err(|error| fail(error.to_string()))?;
    match ids.len() {
        0 => Err(fail("the prompt has no tokens".to_owned())),
        length if length >= context => {
            Err(fail(format!("the prompt has {length} tokens; the model's context is {context}")))
        }
        _ => Ok(Asked { id: row.id, prompt: row.prompt, ids }),
    }
}

fn typed(text: &str, raw: bool, tokenizer: &Tokenizer) -> PromptRow {
    let prompt = if tokenizer.has_chat_template() && !raw {
        Prompt::Messages(vec![Message::new("user", text)])
    } else {
        Prompt::Text(text.to_owned())
    };
    PromptRow { id: 0, line: 1, prompt, reference: None }
}
