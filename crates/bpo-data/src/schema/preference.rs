//! Preference pairs, with the prompt given or implied by the turns both sides share.

use serde_json::Value;

use super::fields::{field, unknown_schema};
use super::prompt::{completion, find_prompt, is_empty};
use super::turns::messages;
use super::{Object, ranked, transcript};
use crate::{Message, Prompt};

const PAIRS: &str = "`prompt`, `chosen`, `rejected` (strings or messages); `chosen` and \
    `rejected` alone (transcripts, messages, or strings that begin alike); `conversations` with `chosen` and `rejected`; \
    `context` with `completions` of `rank` and `completion`";

/// Why a row is skipped: the two sides differ by more than their last assistant turns.
pub(crate) const DIVERGED: &str = "the two sides diverge before the last assistant turn";
/// Why a row is malformed: neither side holds a prompt, and they share no beginning that could be one. Very likely a
/// column is missing.
const APART: &str = "chosen and rejected share no beginning that could be the prompt";
/// Why a row is skipped: one side is the beginning of the other, so it would answer nothing.
const CONTAINED: &str = "one of chosen and rejected is the beginning of the other";
/// Why a row is skipped: there is nothing to prefer.
pub(crate) const IDENTICAL: &str = "chosen and rejected are identical";

/// A prompt and two responses.
#[derive(Debug, PartialEq)]
pub(crate) struct Pair {
    pub prompt: Prompt,
    pub chosen: String,
    pub rejected: String,
}

/// The pair of a row, or why it is skipped; an error where the row is malformed.
pub(crate) fn preference(row: &Object) -> Result<Result<Pair, &'static str>, String> {
    let (Some(chosen), Some(rejected)) = (field(row, "chosen"), field(row, "rejected")) else {
        if let Some(ranked) = ranked::ranked(row)? {
            let pair = ranked.extremes().map(|(prompt, chosen, rejected)| Pair { prompt, chosen, rejected });
            return checked(pair);
        }
        return Err(unknown_schema(row, PAIRS));
    };
    let explicit = ["prompt", "messages", "conversations", "instruction"].iter().any(|key| field(row, key).is_some());
    let pair = match (turns("chosen", chosen, explicit)?, turns("rejected", rejected, explicit)?) {
        (Some(chosen), Some(rejected)) => implied(chosen, rejected),
        _ if explicit => Ok(given(row, chosen, rejected)?),
        _ => match (chosen, rejected) {
            (Value::String(chosen), Value::String(rejected)) => match shared_beginning(chosen, rejected) {
                Err(APART) => return Err(format!("{APART}; {}", unknown_schema(row, PAIRS))),
                pair => pair,
            },
            _ => return Err(unknown_schema(row, PAIRS)),
        },
    };
    checked(pair)
}

/// Refuses an empty prompt, and skips a pair of the same response twice.
fn checked(pair: Result<Pair, &'static str>) -> Result<Result<Pair, &'static str>, String> {
    match pair {
        Ok(pair) if is_empty(&pair.prompt) => Err("the prompt is empty".to_owned()),
        Ok(pair) if pair.chosen == pair.rejected => Ok(Err(IDENTICAL)),
        other => Ok(other),
    }
}

/// The whole conversation that one side holds; `None` if it holds only a response.
///
/// Beside an explicit prompt a string is always a response, whatever it looks like.
fn turns(key: &str, side: &Value, explicit: bool) -> Result<Option<Vec<Message>>, String> {
    let turns = match side {
        Value::String(text) if !explicit => transcript::turns(text),
        Value::Array(_) => Some(messages(key, side)?).filter(|turns| turns.len() > 1),
        _ => None,
    };
    Ok(turns)
}

/// A pair with a prompt of its own.
fn given(row: &Object, chosen: &Value, rejected: &Value) -> Result<Pair, String> {
    let (mut prompt, answer) = find_prompt(row)?.ok_or_else(|| unknown_schema(row, PAIRS))?;
    let chosen = completion("chosen", chosen)?;
    let rejected = completion("rejected", rejected)?;
    // A conversation may end with the chosen answer; any other assistant turn is context.
    if let (Prompt::Messages(turns), Some(last)) = (&mut prompt, answer)
        && last != chosen
    {
        turns.push(Message::new("assistant", last));
    }
    Ok(Pair { prompt, chosen, rejected })
}

/// A pair of conversations: the turns they share are the prompt, and exactly one assistant turn
/// must follow on each side.
fn implied(mut chosen: Vec<Message>, mut rejected: Vec<Message>) -> Result<Pair, &'static str> {
    if chosen == rejected {
        return Err(IDENTICAL);
    }
    let shared = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
    let (Some(first), Some(second)) = (only_answer(&mut chosen, shared), only_answer(&mut rejected, shared)) else {
        return Err(DIVERGED);
    };
    Ok(Pair { prompt: Prompt::Messages(chosen), chosen: first, rejected: second })
}

/// A pair of plain texts: what they share is the prompt, without the space before the first difference, as TRL's
/// `extract_prompt` cuts them.
pub(super) fn shared_beginning(chosen: &str, rejected: &str) -> Result<Pair, &'static str> {
    let differs = chosen.char_indices().zip(rejected.chars()).find(|((_, a), b)| a != b);
    let Some(((at, _), _)) = differs else {
        return Err(if chosen == rejected { IDENTICAL } else { CONTAINED });
    };
    let at = chosen[..at].strip_suffix(' ').map_or(at, str::len);
    if at == 0 {
        return Err(APART);
    }
    let (prompt, chosen) = chosen.split_at(at);
    Ok(Pair { prompt: Prompt::Text(prompt.to_owned()), chosen: chosen.to_owned(), rejected: rejected[at..].to_owned() })
}

/// Takes the one assistant turn off that follows `shared` turns, if that is all there is.
fn only_answer(turns: &mut Vec<Message>, shared: usize) -> Option<String> {
    let is_one = turns.len() == shared + 1;
    turns.pop_if(|last| is_one && last.is_assistant()).map(|turn| turn.content)
}

#[cfg(test)]
mod tests;
