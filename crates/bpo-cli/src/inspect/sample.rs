//! One row as a model is trained on it: ids, where the completion begins, what the loss covers.
use bpo_data::{Counts, Limits, Prompt, Tokenizer, fit_group, fit_prompt};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    out::{Out, printable},
};

/// A row in the terms that every verb reads.
pub struct Text {
    /// Line in the file.
    pub line: usize,
    /// What comes first; nothing for a text on its own.
    pub prompt: Option<Prompt>,
    /// What follows, by name: of a pair both responses, of a prompt alone nothing.
    pub completions: Vec<(&'static str, String)>,
}

/// A row in ids.
struct Encoded {
    prompt: Vec<u32>,
    completions: Vec<Vec<u32>>,
}

fn encoded(text: &Text, tokenizer: &Tokenizer) -> Result<Encoded, Failure> {
    let none = Prompt::Text(String::new());
    let prompt = tokenizer.encode_prompt(text.prompt.as_ref().unwrap_or(&none))?;
    let ends = !tokenizer.eos_ids().is_empty();
    let completions = text.completions.iter().map(|(_, text)| tokenizer.encode_completion(text, ends));
    Ok(Encoded { prompt, completions: completions.collect::<Result<_, _>>()? })
}

/// How many rows fit limits, are cut, or are left out, and why.
pub struct Fitting {
    limits: Limits,
    counts: Counts,
    kept: usize,
}

impl Fitting {
    /// Of no rows yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, counts: Counts::default(), kept: 0 }
    }

    /// Counts a row.
    pub fn add(&mut self, text: &Text, tokenizer: &Tokenizer) -> Result<(), Failure> {
        let Self { limits, counts, kept } = self;
        let Encoded { prompt, completions } = encoded(text, tokenizer)?;
        let fits = if completions.is_empty() {
            counts.keep(fit_prompt(prompt, limits, false)?).is_some()
        } else if text.prompt.is_none() {
            // A text on its own continues the first of its tokens.
            counts.keep(fit_prompt([prompt, completions.concat()].concat(), limits, false)?).is_some()
        } else {
            counts.keep(fit_group(prompt, completions, limits, false)?).is_some()
        };
        *kept += usize::from(fits);
        Ok(())
    }

    /// As facts.
    pub fn told(&self) -> Value {
        let Self { limits, counts, kept } = self;
        let dropped: Value = counts.dropped.iter().map(|(reason, count)| (reason.to_string(), json!(count))).collect();
        json!({
            "max_length": limits.max_length,
            "max_prompt_length": limits.max_prompt_length,
            "kept": kept,
            "truncated": counts.truncated,
            "dropped": dropped,
        })
    }
}

/// The row in ids, with the mask of the tokens that a loss covers.
pub fn facts(text: &Text, tokenizer: &Tokenizer) -> Result<Value, Failure> {
    let Encoded { prompt, completions } = encoded(text, tokenizer)?;
    let mut facts = json!({
        "line": text.line,
        "rendered": tokenizer.decode_raw(&prompt)?,
        "prompt_ids": prompt,
    });
    for ((name, _), ids) in text.completions.iter().zip(&completions) {
        let mask: String = prompt.iter().map(|_| '0').chain(ids.iter().map(|_| '1')).collect();
        facts[*name] = json!({"ids": ids, "boundary": prompt.len(), "mask": mask});
    }
    Ok(facts)
}

/// What a kind of token looks like in a terminal.
const PROMPT: &str = "\x1b[2m";
const COMPLETION: &str = "\x1b[32m";
const CONTROL: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// Prints the row token by token, a `‖` where the completion begins; in colour the prompt is dim, what is learned
/// green, special tokens yellow.
pub fn print(out: &mut Out, text: &Text, tokenizer: &Tokenizer, colour: bool) -> Result<(), Failure> {
    let Encoded { prompt, completions } = encoded(text, tokenizer)?;
    out.line(&format!("line {}, token by token:", text.line))?;
    let prompt_shown = run(&prompt, tokenizer, PROMPT, colour)?;
    if completions.is_empty() {
        return out.line(&format!("  prompt     {prompt_shown}"));
    }
    for ((name, _), ids) in text.completions.iter().zip(&completions) {
        let completion = run(ids, tokenizer, COMPLETION, colour)?;
        out.line(&format!("  {name:<11}{prompt_shown}‖{completion}"))?;
    }
    Ok(())
}

/// Most tokens that one character is made of.
const LONGEST: usize = 8;

/// Tokens with a bar between each two; those that only together make a character stand as it.
fn run(ids: &[u32], tokenizer: &Tokenizer, style: &str, colour: bool) -> Result<String, Failure> {
    let (mut shown, mut rest) = (Vec::new(), ids);
    while !rest.is_empty() {
        let (token, after) = rest.split_at(together(rest, tokenizer)?);
        rest = after;
        let raw = tokenizer.decode_raw(token)?;
        let style = if tokenizer.decode(token)?.is_empty() && !raw.is_empty() { CONTROL } else { style };
        let token = printable(&raw).replace('\n', "⏎").replace('\t', "⇥");
        shown.push(if colour { format!("{style}{token}{PLAIN}") } else { token });
    }
    Ok(shown.join("│"))
}

/// How many of the first tokens it takes to make whole characters; one, where no number does.
fn together(ids: &[u32], tokenizer: &Tokenizer) -> Result<usize, Failure> {
    for count in 1..=LONGEST.min(ids.len()) {
        if !tokenizer.decode_raw(&ids[..count])?.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(count);
        }
    }
    Ok(1)
}
