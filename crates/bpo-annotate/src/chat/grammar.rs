//! What a judge's words mean. Only what can mean one thing is a verdict; everything else is an abstention.

use serde_json::{Map, Value};

use crate::Abstention;
use crate::cache::Answer;

/// Words before a verdict that change nothing.
const LEADS: [&str; 10] = [
    "final verdict",
    "my verdict",
    "verdict",
    "final answer",
    "answer",
    "better response",
    "winner",
    "response",
    "assistant",
    "option",
];

/// Words before a rating that change nothing.
const RATING_LEADS: [&str; 5] = ["final rating", "rating", "score", "answer", "my rating"];

/// Reads a comparison's verdict.
///
/// | reply | verdict |
/// |---|---|
/// | `A`, `first`, `**A**`, `Response A.`, `Verdict: A`, `"A"` and nothing else | the response shown first |
/// | the same with `B`, `second` | the response shown second |
/// | the same with `tie`, `C`, `equal`, `neither`, `both` | a tie |
/// | `{"verdict": "A"}`, with other keys or without | the same |
/// | any text with `[[A]]`, `[[B]]`, `[[C]]` or `[[tie]]`, one of them, however often | the same |
/// | anything else: both, none, half a reply | none |
///
/// A `<think>…</think>` before the reply does not count.
pub(crate) fn verdict(reply: &str) -> Result<Answer, Abstention> {
    let said = spoken(reply)?;
    if let Some(object) = object(said) {
        let value = object.get("verdict").and_then(Value::as_str);
        return value.and_then(word).ok_or_else(|| unclear("a JSON object without a `verdict` of A, B or tie", said));
    }
    match marked(said).as_slice() {
        [] => phrase(said, &LEADS).and_then(word).ok_or_else(|| unclear("neither A, B nor tie", said)),
        [one, rest @ ..] if rest.iter().all(|other| other == one) => {
            word(one).ok_or_else(|| unclear("no verdict in [[ ]]", said))
        }
        _ => Err(unclear("more than one verdict in [[ ]]", said)),
    }
}

/// Reads a rating from `lowest` to `highest`: a number alone (`7`, `7.5`, `**7**`, `Rating: 7`, `7/10` where 10 is the
/// highest), `{"rating": 7}` (or `score`), or one number in `[[ ]]`.
pub(crate) fn rating(reply: &str, [lowest, highest]: [f64; 2]) -> Result<Answer, Abstention> {
    let said = spoken(reply)?;
    let number = if let Some(object) = object(said) {
        object.get("rating").or_else(|| object.get("score")).and_then(Value::as_f64)
    } else {
        match marked(said).as_slice() {
            [] => phrase(said, &RATING_LEADS).and_then(|text| number(text, highest)),
            [one, rest @ ..] if rest.iter().all(|other| other == one) => number(one, highest),
            _ => return Err(unclear("more than one rating in [[ ]]", said)),
        }
    };
    let number = number.ok_or_else(|| unclear("not a number alone", said))?;
    match (lowest..=highest).contains(&number) {
        true => Ok(Answer::Score(number)),
        false => Err(unclear(&format!("{number} is not from {lowest} to {highest}"), said)),
    }
}

/// The reply behind a closed `<think>` block; half a block is no reply.
fn spoken(reply: &str) -> Result<&str, Abstention> {
    let reply = reply.trim();
    match reply.strip_prefix("<think>") {
        Some(thought) => match thought.rsplit_once("</think>") {
            Some((_, said)) => Ok(said.trim()),
            None => Err(Abstention::Malformed("the reply ends within <think>".to_owned())),
        },
        None => Ok(reply),
    }
}

fn object(said: &str) -> Option<Map<String, Value>> {
    let fenced = said.strip_prefix("```json").or_else(|| said.strip_prefix("```")).and_then(|s| s.strip_suffix("```"));
    serde_json::from_str(fenced.unwrap_or(said)).ok()
}

/// Everything in double square brackets.
fn marked(said: &str) -> Vec<&str> {
    let parts = said.split("[[").skip(1);
    parts.filter_map(|part| part.split_once("]]")).map(|(inside, _)| inside.trim()).collect()
}

/// The one word of a reply without emphasis, quotes, a full stop and what leads to it.
fn phrase<'a>(said: &'a str, leads: &[&str]) -> Option<&'a str> {
    const EMPHASIS: [char; 8] = ['*', '_', '`', '"', '\'', '(', ')', '#'];
    let bare = |text: &'a str| {
        text.trim().trim_matches(EMPHASIS).trim().trim_end_matches(['.', '!']).trim_matches(EMPHASIS).trim()
    };
    let mut text = bare(said);
    // "Final verdict: Response A" has two leads; nobody has more.
    for _ in 0..2 {
        let lead = leads.iter().find_map(|lead| {
            let (head, rest) = text.split_at_checked(lead.len())?;
            let is_apart = rest.starts_with([':', '=', '*', ' ', '\n']);
            (head.eq_ignore_ascii_case(lead) && is_apart).then(|| rest.trim_start_matches([':', '=', '*', ' ', '\n']))
        });
        match lead {
            Some(rest) => text = bare(rest),
            None => break,
        }
    }
    (!text.is_empty()).then_some(text)
}

fn word(text: &str) -> Option<Answer> {
    match text.trim().to_lowercase().as_str() {
        "a" | "first" | "response a" => Some(Answer::First),
        "b" | "second" | "response b" => Some(Answer::Second),
        "tie" | "c" | "equal" | "neither" | "both" => Some(Answer::Tie),
        _ => None,
    }
}

/// A decimal number, out of `highest` where it says so.
fn number(text: &str, highest: f64) -> Option<f64> {
    let (number, of) = match text.split_once('/') {
        Some((number, of)) => (number.trim(), Some(of.trim())),
        None => (text.trim(), None),
    };
    // No "inf", no "nan", no exponent: a judge writes digits.
    let is_plain = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && digits.as_bytes()[0] != b'.'
    };
    if let Some(of) = of
        && (!is_plain(of) || of.parse() != Ok(highest))
    {
        return None;
    }
    is_plain(number).then(|| number.parse().ok()).flatten()
}

fn unclear(why: &str, said: &str) -> Abstention {
    // All of it: it is cut where keys are taken out of it, since half a key would not be found.
    Abstention::Malformed(format!("{why}: {said}"))
}

#[cfg(test)]
mod tests;
