use serde_json::json;

use super::*;

fn object(value: Value) -> Object {
    value.as_object().unwrap().clone()
}

fn chat(turns: &[(&str, &str)]) -> Prompt {
    Prompt::Messages(turns.iter().map(|&(role, content)| Message::new(role, content)).collect())
}

fn plain(text: &str) -> Prompt {
    Prompt::Text(text.to_owned())
}

#[track_caller]
fn reads(row: Value, expected: Prompt, reference: Option<&str>) {
    assert_eq!(prompt(&object(row)), Ok((expected, reference.map(str::to_owned))));
}

#[test]
fn every_prompt_schema_is_read() {
    let turns = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
    reads(json!({"prompt": " q "}), plain(" q "), None);
    reads(json!({"prompt": "q", "label": "r"}), plain("q"), Some("r"));
    reads(json!({"prompt": [{"role": "user", "content": "q"}]}), chat(&[("user", "q")]), None);
    reads(json!({"messages": turns}), chat(&[("user", "q")]), Some("a"));
    reads(json!({"messages": turns, "reference": "r"}), chat(&[("user", "q")]), Some("r"));
    reads(
        json!({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}]}),
        chat(&[("system", "s"), ("user", "q")]),
        None,
    );
    reads(json!({"instruction": "do", "input": "", "output": "r"}), plain("do"), Some("r"));
    reads(json!({"instruction": "do", "input": "this"}), plain("do\nthis"), None);
    reads(
        json!({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}),
        chat(&[("user", "q")]),
        Some("a"),
    );
    reads(json!({"chosen": turns, "rejected": turns}), chat(&[("user", "q")]), Some("a"));
    reads(json!({"chosen": "q is a", "rejected": "q is b"}), plain("q is"), Some(" a"));
}

#[test]
fn a_system_column_and_the_history_of_an_instruction_are_turns_before_it() {
    let said = json!([{"from": "human", "value": "q"}]);
    let led = chat(&[("system", "s"), ("user", "q")]);
    reads(json!({"system": "s", "conversations": said}), led.clone(), None);
    reads(json!({"system": "s", "messages": [{"role": "user", "content": "q"}]}), led.clone(), None);
    reads(json!({"system": "s", "instruction": "q", "output": "r"}), led, Some("r"));
    // The conversation's own comes first; an empty one says nothing.
    let own = json!([{"from": "system", "value": "own"}, {"from": "human", "value": "q"}]);
    reads(json!({"system": "s", "conversations": own}), chat(&[("system", "own"), ("user", "q")]), None);
    reads(json!({"system": "", "history": [], "instruction": "q", "input": ""}), plain("q"), None);
    reads(
        json!({"instruction": "do", "input": "this", "history": [["a", "b"], ["c", "d"]]}),
        chat(&[("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "do\nthis")]),
        None,
    );
    for history in [json!("SECRET"), json!(["SECRET"]), json!([["SECRET"]]), json!([["SECRET", 1]])] {
        let reason = prompt(&object(json!({"instruction": "q", "history": history}))).unwrap_err();
        assert!(reason.contains("`history` must be a list of pairs") && !reason.contains("SECRET"), "{reason}");
    }
}

#[test]
fn tools_are_refused_and_not_left_out_of_the_prompt() {
    let row = |tools: Value| prompt(&object(json!({"prompt": [{"role": "user", "content": "q"}], "tools": tools})));
    assert!(row(json!([{"name": "SECRET"}])).unwrap_err().starts_with("`tools` are not put"));
    for none in [Value::Null, json!([])] {
        assert_eq!(row(none).unwrap().0, chat(&[("user", "q")]));
    }
}

#[test]
fn references_are_found_under_every_name_in_order() {
    for key in RESPONSES {
        reads(json!({"prompt": "q", *key: "r"}), plain("q"), Some("r"));
    }
    reads(json!({"prompt": "q", "label": null, "response": "r"}), plain("q"), Some("r"));
    reads(json!({"prompt": "q", "completion": "r", "label": true}), plain("q"), Some("r"));
    let message = json!([{"role": "assistant", "content": "r"}]);
    reads(json!({"prompt": "q", "completion": message}), plain("q"), Some("r"));
}

#[test]
fn unknown_schemas_name_the_keys_and_what_is_accepted() {
    let reason = prompt(&object(json!({"question": "SECRET", "x\n": 1}))).unwrap_err();
    assert!(reason.starts_with("unknown schema: the row has [question, x\u{fffd}]; accepted: `prompt`"));
    assert!(!reason.contains("SECRET"));
    let many: Object = (0..40).map(|i| (format!("{i}{}", "k".repeat(99)), json!(1))).collect();
    assert!(prompt(&many).unwrap_err().len() < 800);
    assert!(prompt(&object(json!({"chosen": "SECRET", "rejected": "b"}))).is_err());
    assert!(text(&object(json!({"prompt": "q"}))).unwrap_err().contains("accepted: `text`"));
}

#[test]
fn wrong_types_and_empty_prompts_are_errors() {
    for (row, expected) in [
        (json!({"prompt": 1}), "`prompt` must be a string or a list of messages, not a number"),
        (json!({"prompt": ""}), "the prompt is empty"),
        (json!({"prompt": []}), "the prompt is empty"),
        (json!({"messages": [{"role": "assistant", "content": "a"}]}), "the prompt is empty"),
        (json!({"messages": "SECRET"}), "`messages` must be a list of messages, not a string"),
        (json!({"instruction": ["SECRET"]}), "`instruction` must be a string, not a list"),
        (json!({"prompt": "q", "response": 1}), "`response` must be a string or messages"),
        (json!({"prompt": "q", "response": []}), "`response` does not end with an assistant turn"),
    ] {
        let reason = prompt(&object(row)).unwrap_err();
        assert!(reason.starts_with(expected), "{reason}");
    }
}

#[test]
fn texts_come_alone_or_after_their_prompt() {
    let turns = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
    for (row, expected_prompt, expected) in [
        (json!({"text": "t"}), None, "t"),
        (json!({"text": "t", "label": 1}), None, "t"),
        (json!({"text": "t", "label": "joy"}), None, "t"),
        (json!({"label": "t"}), None, "t"),
        (json!({"prompt": "q", "completion": "t"}), Some(plain("q")), "t"),
        (json!({"prompt": "q", "chosen": "t", "rejected": "u"}), Some(plain("q")), "t"),
        (json!({"messages": turns}), Some(chat(&[("user", "q")])), "a"),
        (json!({"chosen": turns, "rejected": turns}), Some(chat(&[("user", "q")])), "a"),
        (json!({"messages": [{"role": "assistant", "content": "a"}]}), None, "a"),
        (json!({"instruction": "do", "output": "t"}), Some(plain("do")), "t"),
    ] {
        let shown = row.to_string();
        assert_eq!(text(&object(row)), Ok((expected_prompt, expected.to_owned())), "{shown}");
    }
}
