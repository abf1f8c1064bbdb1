//! Message lists, in the OpenAI (`role`/`content`) and ShareGPT (`from`/`value`) spellings.

use serde_json::Value;

use super::Object;
use super::fields::{field, wrong};
use crate::Message;
use crate::reader::kind;

/// Parses a list of messages; `key` names it in errors.
pub(super) fn messages(key: &str, value: &Value) -> Result<Vec<Message>, String> {
    let Value::Array(items) = value else {
        return Err(wrong(key, "a list of messages", value));
    };
    items.iter().map(|item| message(key, item)).collect()
}

/// Parses one message; `key` names the field it is in.
pub(super) fn message(key: &str, value: &Value) -> Result<Message, String> {
    let Value::Object(turn) = value else {
        return Err(format!("`{key}` must hold message objects, not {}", kind(value)));
    };
    if field(turn, "tool_calls").is_some_and(|calls| calls.as_array().is_none_or(|calls| !calls.is_empty())) {
        return Err(format!("a message in `{key}` has `tool_calls`, which are not read"));
    }
    let (role, content) = if turn.contains_key("from") { ("from", "value") } else { ("role", "content") };
    match field(turn, role) {
        Some(Value::String(name)) => Ok(Message::new(canonical(name), self::content(key, content, turn)?)),
        Some(other) => Err(wrong(&format!("{key}.{role}"), "a string", other)),
        None => Err(format!("a message in `{key}` has neither `role` nor `from`")),
    }
}

/// The content of a message: a string, or a list of text parts. Null is empty.
fn content(key: &str, name: &str, turn: &Object) -> Result<String, String> {
    match turn.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) => Ok(String::new()),
        Some(Value::Array(parts)) => parts.iter().map(|part| text_part(key, part)).collect(),
        Some(other) => Err(wrong(&format!("{key}.{name}"), "a string", other)),
        None => Err(format!("a message in `{key}` has no `{name}`")),
    }
}

fn text_part<'a>(key: &str, part: &'a Value) -> Result<&'a str, String> {
    part.get("text").and_then(Value::as_str).ok_or_else(|| format!("a message in `{key}` has a part that is not text"))
}

/// ShareGPT's names in the terms chat templates know.
fn canonical(role: &str) -> &str {
    match role {
        "human" => "user",
        "gpt" | "chatgpt" | "bing" | "bard" => "assistant",
        other => other,
    }
}

/// Takes a trailing assistant turn off a conversation.
pub(super) fn split_answer(mut turns: Vec<Message>) -> (Vec<Message>, Option<String>) {
    match turns.pop_if(|last| last.is_assistant()) {
        Some(answer) => (turns, Some(answer.content)),
        None => (turns, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_spellings_and_text_parts_are_read() {
        let list = json!([
            {"from": "human", "value": "a"},
            {"from": "gpt", "value": "b"},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
            {"role": "assistant", "content": null},
        ]);
        let turns = messages("m", &list).unwrap();
        let expected = [("user", "a"), ("assistant", "b"), ("user", "cd"), ("assistant", "")];
        assert_eq!(turns, expected.map(|(r, c)| Message::new(r, c)));
    }

    #[test]
    fn a_call_of_a_tool_is_refused_and_not_left_out_of_the_conversation() {
        let said = |calls: Value| messages("m", &json!([{"role": "assistant", "content": "a", "tool_calls": calls}]));
        let reason = said(json!([{"function": {"name": "SECRET"}}])).unwrap_err();
        assert!(reason.contains("`m` has `tool_calls`") && !reason.contains("SECRET"), "{reason}");
        for none in [Value::Null, json!([])] {
            assert_eq!(said(none).unwrap(), [Message::new("assistant", "a")]);
        }
    }

    #[test]
    fn errors_name_fields_and_never_contents() {
        for bad in [
            json!("SECRET"),
            json!(["SECRET"]),
            json!([{"content": "SECRET"}]),
            json!([{"role": "SECRET"}]),
            json!([{"role": 1, "content": "SECRET"}]),
            json!([{"role": "user", "content": {"SECRET": 1}}]),
            json!([{"role": "user", "content": [{"type": "image", "url": "SECRET"}]}]),
        ] {
            let reason = messages("prompt", &bad).unwrap_err();
            assert!(reason.contains("`prompt"), "{reason}");
            assert!(!reason.contains("SECRET"), "{reason}");
        }
    }
}
