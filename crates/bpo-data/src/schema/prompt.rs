//! Prompts and the texts that answer them.

use serde_json::Value;

use super::fields::{RESPONSES, field, string, unknown_schema, wrong};
use super::turns::{message, messages, split_answer};
use super::{Object, ranked, transcript};
use crate::{Message, Prompt};

const PROMPTS: &str = "`prompt` (string or messages), `messages`, `conversations`, \
    `instruction` (+ `input`), `chosen` (+ `rejected`; transcripts or messages), \
    `context` with ranked `completions`";
const TEXTS: &str = "`text`; or a prompt (`prompt`, `messages`, `conversations`, `instruction`) \
    with `completion`, `label`, `response`, `reference`, `output` or `chosen`; or a conversation \
    that ends with an assistant turn";

/// The prompt of a row and the reference response, where there is one.
pub(crate) fn prompt(row: &Object) -> Result<(Prompt, Option<String>), String> {
    let (prompt, answer) = find_prompt(row)?.ok_or_else(|| unknown_schema(row, PROMPTS))?;
    if is_empty(&prompt) {
        return Err("the prompt is empty".to_owned());
    }
    if let Some(ranked) = ranked::ranked(row)? {
        return Ok((prompt, ranked.completions.into_iter().next().map(|(_, best)| best)));
    }
    let reference = match response(row)? {
        Some(text) => Some(text),
        None => answer.or(chosen_text(row)?),
    };
    Ok((prompt, reference))
}

/// The text of a row that is learned or compared with, and its prompt, where there is one.
pub(crate) fn text(row: &Object) -> Result<(Option<Prompt>, String), String> {
    let (prompt, answer) = match find_prompt(row)? {
        Some((prompt, answer)) => (Some(prompt).filter(|p| !is_empty(p)), answer),
        None => (None, None),
    };
    if let (true, Some(ranked)) = (prompt.is_some(), ranked::ranked(row)?) {
        let best = ranked.completions.into_iter().next();
        return best.map(|(_, best)| (prompt, best)).ok_or_else(|| unknown_schema(row, TEXTS));
    }
    // Without a prompt, `text` comes first: `{"text", "label"}` is a classification row.
    let text = match string(row, "text")? {
        Some(text) if prompt.is_none() => Some(text),
        other => response(row)?.or(answer).or(chosen_text(row)?).or(other),
    };
    text.map(|text| (prompt, text)).ok_or_else(|| unknown_schema(row, TEXTS))
}

/// The prompt of a row by the first schema that fits, with the answer the same field holds.
pub(super) fn find_prompt(row: &Object) -> Result<Option<(Prompt, Option<String>)>, String> {
    if let Some(value) = field(row, "prompt") {
        return explicit("prompt", value).map(Some);
    }
    for key in ["messages", "conversations"] {
        if let Some(value) = field(row, key) {
            return Ok(Some(conversation(messages(key, value)?)));
        }
    }
    if let Some(instruction) = string(row, "instruction")? {
        let input = string(row, "input")?.filter(|input| !input.is_empty());
        let text = input.map_or(instruction.clone(), |input| format!("{instruction}\n{input}"));
        return Ok(Some((Prompt::Text(text), None)));
    }
    if let Some(ranked) = ranked::ranked(row)? {
        return Ok(Some((ranked.prompt, None)));
    }
    field(row, "chosen").map_or(Ok(None), from_chosen)
}

/// A `prompt` field: a string or a message list.
pub(super) fn explicit(key: &str, value: &Value) -> Result<(Prompt, Option<String>), String> {
    match value {
        Value::String(text) => Ok((Prompt::Text(text.clone()), None)),
        Value::Array(_) => Ok(conversation(messages(key, value)?)),
        other => Err(wrong(key, "a string or a list of messages", other)),
    }
}

/// The prompt that a full chosen conversation contains; a bare completion contains none.
fn from_chosen(value: &Value) -> Result<Option<(Prompt, Option<String>)>, String> {
    let turns = match value {
        Value::String(text) => transcript::turns(text),
        Value::Array(_) => Some(messages("chosen", value)?),
        _ => None,
    };
    Ok(turns.filter(|turns| turns.len() > 1).map(conversation))
}

fn conversation(turns: Vec<Message>) -> (Prompt, Option<String>) {
    let (turns, answer) = split_answer(turns);
    (Prompt::Messages(turns), answer)
}

/// The reference response of a row, from the first key that has one.
fn response(row: &Object) -> Result<Option<String>, String> {
    for key in RESPONSES {
        // A `label` that is a number or a boolean is a class or a vote, not a text.
        let is_class = |value: &Value| *key == "label" && (value.is_number() || value.is_boolean());
        if let Some(value) = field(row, key).filter(|value| !is_class(value)) {
            return completion(key, value).map(Some);
        }
    }
    Ok(None)
}

/// `chosen` as a bare completion, beside a prompt of its own.
fn chosen_text(row: &Object) -> Result<Option<String>, String> {
    field(row, "chosen").map(|value| completion("chosen", value)).transpose()
}

/// A completion: a string, one message, or a message list that ends with an assistant turn.
pub(super) fn completion(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Object(_) => Ok(message(key, value)?.content),
        Value::Array(_) => {
            split_answer(messages(key, value)?).1.ok_or_else(|| format!("`{key}` does not end with an assistant turn"))
        }
        other => Err(wrong(key, "a string or messages", other)),
    }
}

/// Whether there is nothing to continue.
pub(super) fn is_empty(prompt: &Prompt) -> bool {
    match prompt {
        Prompt::Text(text) => text.is_empty(),
        Prompt::Messages(turns) => turns.is_empty(),
    }
}

#[cfg(test)]
mod tests;
