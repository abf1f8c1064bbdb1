//! What one line of a program means.

use serde_json::{Map, Value};

use crate::{Abstention, Verdict};

/// One reply, as far as every mode agrees.
pub(super) struct Reply {
    /// The question it says it answers.
    pub id: Option<Value>,
    /// The rest.
    pub body: Map<String, Value>,
}

/// What one reply says in some mode: an answer, or no answer.
///
/// A reply that has the expected key at all `belongs` to the question, even when its value is
/// of no use; one that lacks it may be anything, a greeting for instance.
pub(super) struct Answer<T> {
    pub value: Result<T, Abstention>,
    pub belongs: bool,
}

/// What a line of a program in mode "score" is taken for, whatever question it answers.
///
/// # Errors
/// Why it is no score: an [`Abstention`] is what a comparison with it becomes.
pub fn reply_score(line: &[u8]) -> Result<f64, Abstention> {
    reply(line).map_err(Abstention::Malformed).and_then(|reply| score(&reply.body).value)
}

/// What a line of a program in mode "compare" is taken for, whatever question it answers.
///
/// # Errors
/// Why it is no verdict.
pub fn reply_verdict(line: &[u8]) -> Result<Verdict, Abstention> {
    reply(line).map_err(Abstention::Malformed).and_then(|reply| verdict(&reply.body).value)
}

/// Reads one line.
pub(super) fn reply(line: &[u8]) -> Result<Reply, String> {
    let text = String::from_utf8_lossy(line);
    let parsed = serde_json::from_str(&text).or_else(|error| {
        // Python's json module writes NaN and Infinity, which are not JSON.
        serde_json::from_str(&without_python_numbers(&text)).map_err(|_| error)
    });
    match parsed {
        Ok(Value::Object(mut body)) => Ok(Reply { id: body.remove("id"), body }),
        Ok(_) => Err(format!("not a JSON object: {}", clipped(&text))),
        Err(error) => Err(format!("{error}: {}", clipped(&text))),
    }
}

fn without_python_numbers(text: &str) -> String {
    ["-Infinity", "Infinity", "NaN"].iter().fold(text.to_owned(), |text, number| text.replace(number, "null"))
}

/// The beginning of a text, for messages.
fn clipped(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The answer of a program in mode "score".
pub(super) fn score(body: &Map<String, Value>) -> Answer<f64> {
    answer(body, "score", |value| match value {
        Value::Null => Err(Abstention::NotANumber),
        Value::Number(number) => number.as_f64().filter(|score| score.is_finite()).ok_or(Abstention::NotANumber),
        other => Err(unexpected("score", other)),
    })
}

/// The answer of a program in mode "compare".
pub(super) fn verdict(body: &Map<String, Value>) -> Answer<Verdict> {
    answer(body, "verdict", |value| match value.as_str() {
        Some("first") => Ok(Verdict::First),
        Some("second") => Ok(Verdict::Second),
        Some("tie") => Ok(Verdict::Tie),
        _ => Err(unexpected("verdict", value)),
    })
}

fn answer<T>(body: &Map<String, Value>, key: &str, read: impl FnOnce(&Value) -> Result<T, Abstention>) -> Answer<T> {
    if let Some(value) = body.get(key) {
        return Answer { value: read(value), belongs: true };
    }
    match body.get("error") {
        Some(error) => Answer { value: Err(Abstention::Failed(clipped(&plain(error)))), belongs: true },
        None => Answer { value: Err(Abstention::Malformed(format!("no `{key}`"))), belongs: false },
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn unexpected(key: &str, value: &Value) -> Abstention {
    Abstention::Malformed(clipped(&format!("`{key}` is {value}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scored(line: &str) -> Result<f64, Abstention> {
        score(&reply(line.as_bytes()).unwrap().body).value
    }

    #[test]
    fn a_score_that_is_not_a_finite_number_abstains() {
        assert_eq!(scored(r#"{"score": 1.5}"#), Ok(1.5));
        for line in [r#"{"score": null}"#, r#"{"score": NaN}"#, r#"{"score": -Infinity}"#] {
            assert_eq!(scored(line), Err(Abstention::NotANumber), "{line}");
        }
        for line in [r#"{"score": "1.5"}"#, r#"{"points": 1.5}"#, "{}"] {
            assert!(matches!(scored(line), Err(Abstention::Malformed(_))), "{line}");
        }
    }

    #[test]
    fn an_error_of_the_program_is_passed_on() {
        let failed = Abstention::Failed("no key".into());
        assert_eq!(scored(r#"{"error": "no key"}"#), Err(failed));
    }

    #[test]
    fn only_the_three_words_are_verdicts() {
        let judged = |line: &str| verdict(&reply(line.as_bytes()).unwrap().body).value;
        assert_eq!(judged(r#"{"verdict":"first"}"#), Ok(Verdict::First));
        assert_eq!(judged(r#"{"verdict":"second"}"#), Ok(Verdict::Second));
        assert_eq!(judged(r#"{"verdict":"tie"}"#), Ok(Verdict::Tie));
        for line in [r#"{"verdict":"First"}"#, r#"{"verdict":1}"#, r#"{"verdict":true}"#] {
            assert!(judged(line).is_err(), "{line}");
        }
    }

    #[test]
    fn messages_quote_no_more_than_two_hundred_characters() {
        let line = "ä".repeat(100_000);
        let reason = reply(line.as_bytes()).err().unwrap();
        assert!(reason.chars().count() < 300);
    }

    proptest! {
        #[test]
        fn a_line_of_any_bytes_is_a_reply_or_a_reason(line in any::<Vec<u8>>()) {
            if let Ok(reply) = reply(&line) {
                let _ = score(&reply.body).value;
                let _ = verdict(&reply.body).value;
            }
        }
    }
}
