//! The prompts, in ids.
use std::path::Path;

use bpo_data::{Error, Message, Prompt, PromptRow, Tokenizer, read_prompts, read_prompts_from};

use super::GenerateArgs;
use crate::{embedded, failure::Failure};

/// A prompt as it was given and as the model reads it.
pub struct Asked {
    /// 0-based index of its row.
    pub id: usize,
    /// As given.
    pub prompt: Prompt,
    /// As read.
    pub ids: Vec<u32>,
}

/// Reads and encodes what is asked for; every prompt leaves room for a token in `context`.
pub fn read(args: &GenerateArgs, tokenizer: &Tokenizer, context: usize) -> Result<Vec<Asked>, Failure> {
    let (rows, origin) = match (&args.prompt, &args.prompts) {
        (Some(text), _) => (vec![typed(text, args.raw, tokenizer)], "--prompt".to_owned()),
        (None, Some(path)) if path == Path::new(embedded::NAME) => {
            (read_prompts_from(embedded::NAME, embedded::PROMPTS)?, embedded::NAME.to_owned())
        }
        (None, Some(path)) => (read_prompts(path)?, path.display().to_string()),
        (None, None) => return Err(Failure::usage("one of --prompt and --prompts is needed")),
    };
    let encode = |row: PromptRow| {
        let fail = |reason| Error::Row { origin: origin.clone(), line: row.line, reason };
        let ids = tokenizer.encode_prompt(&row.prompt).map_err(|error| fail(error.to_string()))?;
        match ids.len() {
            0 => Err(fail("the prompt has no tokens".to_owned()).into()),
            length if length >= context => {
                Err(fail(format!("the prompt has {length} tokens; the model's context is {context}")).into())
            }
            _ => Ok(Asked { id: row.id, prompt: row.prompt, ids }),
        }
    };
    rows.into_iter().map(encode).collect()
}

fn typed(text: &str, raw: bool, tokenizer: &Tokenizer) -> PromptRow {
    let prompt = if tokenizer.has_chat_template() && !raw {
        Prompt::Messages(vec![Message::new("user", text)])
    } else {
        Prompt::Text(text.to_owned())
    };
    PromptRow { id: 0, line: 1, prompt, reference: None }
}
