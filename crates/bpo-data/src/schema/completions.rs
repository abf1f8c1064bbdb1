//! Completions of a prompt, one or several in a row.

use serde_json::Value;

use super::fields::{field, unknown_schema, wrong};
use super::prompt::{completion, is_empty};
use super::turns::messages;
use super::{Object, ranked};
use crate::Prompt;

const COMPLETIONS: &str = "`prompt` (string or messages) with `completions` or `responses` (lists), \
    or with `text`, `completion` or `response`; `context` with ranked `completions`";

/// Keys of several completions, in order of preference.
const SEVERAL: [&str; 2] = ["completions", "responses"];
/// Keys of one completion, in order of preference.
const ONE: [&str; 3] = ["text", "completion", "response"];

/// The prompt of a row, the same as the row spells it, and its completions.
pub(crate) fn completions(row: &Object) -> Result<(Prompt, Value, Vec<String>), String> {
    if let (None, Some(ranked)) = (field(row, "prompt"), ranked::ranked(row)?) {
        let completions = ranked.completions.into_iter().map(|(_, text)| text).collect();
        return Ok((ranked.prompt, row["context"].clone(), completions));
    }
    let given = field(row, "prompt").ok_or_else(|| unknown_schema(row, COMPLETIONS))?;
    // A last assistant turn is context here: the completions are elsewhere.
    let prompt = match given {
        Value::String(text) => Prompt::Text(text.clone()),
        Value::Array(_) => Prompt::Messages(messages("prompt", given)?),
        other => return Err(wrong("prompt", "a string or a list of messages", other)),
    };
    if is_empty(&prompt) {
        return Err("the prompt is empty".to_owned());
    }
    Ok((prompt, given.clone(), find(row)?))
}

fn find(row: &Object) -> Result<Vec<String>, String> {
    let value = |keys: &[&'static str]| keys.iter().find_map(|&key| Some((key, field(row, key)?)));
    match (value(&SEVERAL), value(&ONE)) {
        (Some((key, Value::Array(list))), _) if list.is_empty() => Err(format!("`{key}` is empty")),
        (Some((key, Value::Array(list))), _) => list.iter().map(|one| completion(key, one)).collect(),
        (Some((key, other)), _) => Err(wrong(key, "a list", other)),
        (None, Some((key, one))) => Ok(vec![completion(key, one)?]),
        (None, None) => Err(unknown_schema(row, COMPLETIONS)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Message;

    fn read(row: &Value) -> Result<(Prompt, Value, Vec<String>), String> {
        completions(row.as_object().unwrap())
    }

    #[test]
    fn one_and_several_completions_are_found_under_every_name() {
        for key in SEVERAL {
            assert_eq!(read(&json!({"prompt": "q", key: [" a ", "b"]})).unwrap().2, [" a ", "b"]);
        }
        for key in ONE {
            assert_eq!(read(&json!({"prompt": "q", key: " a "})).unwrap().2, [" a "]);
        }
        let answer = json!([{"role": "assistant", "content": "a"}]);
        assert_eq!(read(&json!({"prompt": "q", "completions": [answer, "b"]})).unwrap().2, ["a", "b"]);
    }

    #[test]
    fn a_prompt_is_kept_as_it_is_spelt() {
        let given = json!([{"from": "human", "value": "q", "id": 7}, {"from": "gpt", "value": "so"}]);
        let (prompt, kept, _) = read(&json!({"prompt": given, "text": "a"})).unwrap();
        assert_eq!(kept, given);
        let turns = [("user", "q"), ("assistant", "so")];
        assert_eq!(prompt, Prompt::Messages(turns.map(|(role, content)| Message::new(role, content)).to_vec()));
    }

    #[test]
    fn a_row_without_a_prompt_or_without_completions_is_refused_and_never_repeated() {
        for (row, word) in [
            (json!({"text": "SECRET"}), "unknown schema"),
            (json!({"prompt": "SECRET"}), "unknown schema"),
            (json!({"prompt": "", "text": "SECRET"}), "the prompt is empty"),
            (json!({"prompt": {"SECRET": 1}, "text": "a"}), "`prompt` must be"),
            (json!({"prompt": "q", "completions": "SECRET"}), "`completions` must be a list"),
            (json!({"prompt": "q", "responses": ["SECRET", 3]}), "`responses` must be"),
            (json!({"prompt": "q", "responses": []}), "`responses` is empty"),
        ] {
            let reason = read(&row).unwrap_err();
            assert!(reason.contains(word) && !reason.contains("SECRET"), "{reason}");
        }
    }
}
