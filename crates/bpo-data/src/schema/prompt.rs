//! Prompts and the texts that answer them.

use serde_json::Value;

use super::fields::{RESPONSES, field, string, unknown_schema, wrong};
use super::preference::shared_beginning;
use super::turns::{message, messages, split_answer};
use super::{Object, ranked, transcript};
use crate::{Message, Prompt};

const PROMPTS: &str = "`prompt` (string or messages), `messages`, `conversations`, \
    `instruction` (+ `input`), `chosen` (+ `rejected`; transcripts, messages or texts that begin alike), \
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
    if field(row, "tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty()) {
        return Err("`tools` are not put into chat templates: leave the column out, or the row".to_owned());
    }
    if let Some(value) = field(row, "prompt") {
        return explicit("prompt", value).map(Some);
    }
    for key in ["messages", "conversations"] {
        if let Some(value) = field(row, key) {
            return Ok(Some(conversation(led(row, messages(key, value)?)?)));
        }
    }
    if let Some(instruction) = string(row, "instruction")? {
        let input = string(row, "input")?.filter(|input| !input.is_empty());
        let text = input.map_or(instruction.clone(), |input| format!("{instruction}\n{input}"));
        let mut turns = led(row, history(row)?)?;
        if turns.is_empty() {
            return Ok(Some((Prompt::Text(text), None)));
        }
        turns.push(Message::new("user", text));
        return Ok(Some((Prompt::Messages(turns), None)));
    }
    if let Some(ranked) = ranked::ranked(row)? {
        return Ok(Some((ranked.prompt, None)));
    }
    match from_chosen(row)? {
        None => Ok(from_texts(row)),
        found => Ok(found),
    }
}

/// A conversation behind the row's own `system` message, unless it begins with one.
fn led(row: &Object, mut turns: Vec<Message>) -> Result<Vec<Message>, String> {
    let system = string(row, "system")?.filter(|system| !system.is_empty());
    if let Some(system) = system
        && turns.first().is_none_or(|first| first.role != "system")
    {
        turns.insert(0, Message::new("system", system));
    }
    Ok(turns)
}

/// The turns before an `instruction`: `history`, a list of pairs of what was asked and answered.
fn history(row: &Object) -> Result<Vec<Message>, String> {
    const EXPECTED: &str = "a list of pairs of strings";
    let Some(value) = field(row, "history") else { return Ok(Vec::new()) };
    let Value::Array(rounds) = value else { return Err(wrong("history", EXPECTED, value)) };
    let mut turns = Vec::with_capacity(2 * rounds.len());
    for round in rounds {
        match round.as_array().map(Vec::as_slice) {
            Some([Value::String(asked), Value::String(answered)]) => {
                turns.extend([Message::new("user", asked), Message::new("assistant", answered)]);
            }
            _ => return Err(format!("`history` must be {EXPECTED}")),
        }
    }
    Ok(turns)
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
fn from_chosen(row: &Object) -> Result<Option<(Prompt, Option<String>)>, String> {
    let turns = match field(row, "chosen") {
        Some(Value::String(text)) => transcript::turns(text),
        Some(value @ Value::Array(_)) => Some(messages("chosen", value)?),
        _ => None,
    };
    Ok(turns.filter(|turns| turns.len() > 1).map(conversation))
}

/// The beginning that two plain texts share, answered by the rest of the chosen one.
fn from_texts(row: &Object) -> Option<(Prompt, Option<String>)> {
    let text = |key| field(row, key).and_then(Value::as_str);
    let pair = shared_beginning(text("chosen")?, text("rejected")?).ok()?;
    Some((pair.prompt, Some(pair.chosen)))
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
