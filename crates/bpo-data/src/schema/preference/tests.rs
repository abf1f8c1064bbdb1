use serde_json::json;

use super::*;

fn read(row: Value) -> Result<Result<Pair, &'static str>, String> {
    preference(row.as_object().unwrap())
}

#[track_caller]
fn reads(row: Value, prompt: Prompt, chosen: &str, rejected: &str) {
    let pair = Pair { prompt, chosen: chosen.to_owned(), rejected: rejected.to_owned() };
    assert_eq!(read(row), Ok(Ok(pair)));
}

fn chat(turns: &[(&str, &str)]) -> Prompt {
    Prompt::Messages(turns.iter().map(|&(role, content)| Message::new(role, content)).collect())
}

fn turns(list: &[(&str, &str)]) -> Value {
    list.iter().map(|(role, content)| json!({"role": role, "content": content})).collect()
}

#[test]
fn explicit_prompts_are_read() {
    let q = Prompt::Text("q".to_owned());
    reads(json!({"prompt": "q", "chosen": "a", "rejected": "b"}), q.clone(), "a", "b");
    let a = turns(&[("assistant", "a")]);
    let b = turns(&[("assistant", "b")]);
    reads(json!({"prompt": "q", "chosen": a, "rejected": b}), q, "a", "b");
    reads(
        json!({"prompt": turns(&[("system", "s"), ("user", "q")]), "chosen": a, "rejected": b}),
        chat(&[("system", "s"), ("user", "q")]),
        "a",
        "b",
    );
    let transcript = "\n\nHuman: x\n\nAssistant: a";
    reads(json!({"prompt": "q", "chosen": transcript, "rejected": "b"}), Prompt::Text("q".to_owned()), transcript, "b");
}

#[test]
fn implied_prompts_are_the_shared_turns() {
    reads(
        json!({"chosen": turns(&[("user", "q"), ("assistant", "a")]),
               "rejected": turns(&[("user", "q"), ("assistant", "b")])}),
        chat(&[("user", "q")]),
        "a",
        "b",
    );
    reads(
        json!({"chosen": "\n\nHuman: p\n\nAssistant: o\n\nHuman: q\n\nAssistant: a",
               "rejected": "\n\nHuman: p\n\nAssistant: o\n\nHuman: q\n\nAssistant:"}),
        chat(&[("user", "p"), ("assistant", "o"), ("user", "q")]),
        "a",
        "",
    );
    // UltraFeedback: the prompt again inside both sides.
    reads(
        json!({"prompt": "q", "messages": turns(&[("user", "q"), ("assistant", "a")]),
               "chosen": turns(&[("user", "q"), ("assistant", "a")]),
               "rejected": turns(&[("user", "q"), ("assistant", "b")])}),
        chat(&[("user", "q")]),
        "a",
        "b",
    );
}

#[test]
fn texts_without_a_prompt_are_cut_where_they_differ_as_trl_cuts_them() {
    let text = |prompt: &str| Prompt::Text(prompt.to_owned());
    let alone = |chosen: &str, rejected: &str| json!({"chosen": chosen, "rejected": rejected});
    reads(alone("The sky is blue.", "The sky is green."), text("The sky is"), " blue.", " green.");
    reads(alone("2+2=4", "2+2=5"), text("2+2="), "4", "5");
    reads(alone("Où? Là é", "Où? Là è"), text("Où? Là"), " é", " è");
    // One of them looks like a transcript, the other does not: texts.
    reads(alone("a\n\nHuman: x\n\nAssistant: y", "a b"), text("a"), "\n\nHuman: x\n\nAssistant: y", " b");
    assert_eq!(read(alone("same", "same")), Ok(Err(IDENTICAL)));
    assert_eq!(read(alone("The sky", "The sky is")), Ok(Err(CONTAINED)));
    for [chosen, rejected] in [["yes", "no"], [" a", " b"], ["é", "è"]] {
        let reason = read(alone(chosen, rejected)).unwrap_err();
        assert!(reason.starts_with(APART) && reason.contains("accepted: `prompt`"), "{reason}");
    }
    assert!(read(json!({"chosen": "a", "rejected": 1})).is_err());
}

#[test]
fn a_column_that_is_null_is_shown_as_null() {
    let reason = read(json!({"prompt": "q", "chosen": null, "rejected": "b"})).unwrap_err();
    assert!(reason.contains("has [prompt, chosen (null), rejected]"), "{reason}");
}

#[test]
fn a_system_column_leads_the_conversation_beside_it() {
    let turns = json!([{"from": "human", "value": "q"}]);
    let answers = [json!({"from": "gpt", "value": "a"}), json!({"from": "gpt", "value": "b"})];
    reads(
        json!({"system": "s", "conversations": turns, "chosen": answers[0], "rejected": answers[1]}),
        chat(&[("system", "s"), ("user", "q")]),
        "a",
        "b",
    );
}

#[test]
fn sharegpt_pairs_are_read() {
    reads(
        json!({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}],
               "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}),
        chat(&[("system", "s"), ("user", "q")]),
        "a",
        "b",
    );
}

#[test]
fn a_last_assistant_turn_is_context_unless_it_is_the_chosen_answer() {
    let row = |last| {
        json!({"messages": turns(&[("user", "q"), ("assistant", last)]),
        "chosen": "a", "rejected": "b"})
    };
    reads(row("a"), chat(&[("user", "q")]), "a", "b");
    reads(row("Sure:"), chat(&[("user", "q"), ("assistant", "Sure:")]), "a", "b");
}

#[test]
fn pairs_without_one_assistant_turn_each_are_skipped() {
    let h = |turns: &str| turns.replace("H:", "\n\nHuman:").replace("A:", "\n\nAssistant:");
    for (chosen, rejected, reason) in [
        ("H: q A: a H: r A: c", "H: q A: b H: r A: d", DIVERGED),
        ("H: q A: a A: c", "H: q A: b", DIVERGED),
        ("H: q A: a", "H: q A: a A: c", DIVERGED),
        ("H: q A: a", "H: other A: b", DIVERGED),
        ("H: q A: a H: c", "H: q A: a H: d", DIVERGED),
        ("H: q A: a", "H: q A: a ", IDENTICAL),
    ] {
        let row = json!({"chosen": h(chosen), "rejected": h(rejected)});
        assert_eq!(read(row), Ok(Err(reason)), "{chosen} / {rejected}");
    }
    assert_eq!(read(json!({"prompt": "q", "chosen": "a", "rejected": "a"})), Ok(Err(IDENTICAL)));
}

#[test]
fn malformed_pairs_are_errors() {
    for row in [
        json!({"chosen": "SECRET", "rejected": "b"}),
        json!({"prompt": "SECRET", "chosen": "a"}),
        json!({"prompt": "", "chosen": "SECRET", "rejected": "b"}),
        json!({"prompt": "q", "chosen": 1, "rejected": "SECRET"}),
        json!({"prompt": "q", "chosen": turns(&[("user", "SECRET")]), "rejected": "b"}),
        json!({"chosen": turns(&[("assistant", "SECRET"), ("assistant", "a")]), "rejected": 1}),
    ] {
        assert!(!read(row).unwrap_err().contains("SECRET"));
    }
}
