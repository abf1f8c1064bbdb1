//! Completions for people, or for programs.
use bpo_data::{Prompt, Tokenizer};
use bpo_sampler::{Completion, FinishReason};
use bpo_train::Origin;
use serde_json::json;

use super::{Asked, GenerateArgs};
use crate::{
    failure::Failure,
    out::{Out, printable},
};

/// Prints completions as they come.
pub struct Printer<'a> {
    args: &'a GenerateArgs,
    tokenizer: &'a Tokenizer,
    out: Out,
    is_first: bool,
}

impl<'a> Printer<'a> {
    /// Prints to standard output.
    pub fn new(args: &'a GenerateArgs, tokenizer: &'a Tokenizer) -> Self {
        Self { args, tokenizer, out: Out::new(), is_first: true }
    }

    /// Prints a prompt's completion, and how it came from a server if it did.
    pub fn print(
        &mut self,
        asked: &Asked,
        slot: u32,
        completion: &Completion,
        origin: Option<Origin>,
    ) -> Result<(), Failure> {
        let text = self.tokenizer.decode(&completion.tokens)?;
        if self.args.json {
            self.record(asked, slot, completion, &text, origin)?;
        } else {
            self.text(asked, completion, &text)?;
        }
        self.out.flush()
    }

    fn record(
        &mut self,
        asked: &Asked,
        slot: u32,
        completion: &Completion,
        text: &str,
        origin: Option<Origin>,
    ) -> Result<(), Failure> {
        let mut row = json!({
            "id": asked.id,
            "slot": slot,
            "prompt": asked.prompt,
            "prompt_ids": asked.ids,
            "response_ids": completion.tokens,
            "text": text,
            "logp": completion.logp(),
            "length": completion.tokens.len(),
            "finish": match completion.finish {
                FinishReason::Eos => "eos",
                FinishReason::Length => "length",
            },
            "seed": self.args.seed,
        });
        if let (Some(row), Some(origin)) = (row.as_object_mut(), origin) {
            row.insert("rescored".into(), json!(origin.rescored));
            row.insert("retokenised".into(), json!(origin.retokenised));
            row.insert("server_logp_gap".into(), json!(origin.logp_gap));
        }
        self.out.json(&row)
    }

    fn text(&mut self, asked: &Asked, completion: &Completion, text: &str) -> Result<(), Failure> {
        if !std::mem::take(&mut self.is_first) {
            self.out.line("")?;
        }
        let prompt = asked.prompt.text();
        // A plain text goes on where it ended; an answer to a conversation begins a line.
        let (gap, text) = match asked.prompt {
            Prompt::Text(_) => ("", self.continuation(asked, completion)?),
            Prompt::Messages(_) => ("\n", text.to_owned()),
        };
        if !self.out.is_terminal() {
            return self.out.line(&format!("{prompt}{gap}{text}"));
        }
        let (prompt, text) = (printable(&prompt), printable(&text));
        match std::env::var_os("NO_COLOR") {
            Some(_) => self.out.line(&format!("{prompt}{gap}{text}")),
            None => self.out.line(&format!("\x1b[2m{prompt}\x1b[0m{gap}{text}")),
        }
    }

    /// The completion as it reads after its prompt: decoded alone, some tokenizers lose a leading space.
    fn continuation(&self, asked: &Asked, completion: &Completion) -> Result<String, Failure> {
        let whole = self.tokenizer.decode(&[asked.ids.as_slice(), &completion.tokens].concat())?;
        match whole.strip_prefix(&self.tokenizer.decode(&asked.ids)?) {
            Some(rest) => Ok(rest.to_owned()),
            None => Ok(self.tokenizer.decode(&completion.tokens)?),
        }
    }
}
