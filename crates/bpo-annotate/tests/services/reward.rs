//! Reward models behind HTTP, in every form, and ratings.
use bpo_annotate::{Abstention, Item, Verdict};
use serde_json::{Value, json};

use crate::{
    built, pairs, quick, right,
    server::{Act, Asked, Server, says},
    verdicts, with_cache,
};

/// The score of a text: 1 where it is good.
fn points(text: &Value) -> f64 {
    f64::from(u8::from(text.as_str().unwrap_or_default().contains("good")))
}

fn endpoint(url: &str, more: Value) -> Value {
    let mut settings = quick(url, &more);
    let table = settings.as_object_mut().unwrap();
    table.insert("kind".into(), json!("reward_endpoint"));
    if more.get("model").is_none() {
        table.remove("model");
    }
    settings
}

fn each(list: &Value, read: impl Fn(&Value) -> Value) -> Vec<Value> {
    list.as_array().unwrap().iter().map(read).collect()
}

#[test]
fn every_form_of_reward_server_is_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("text.jinja");
    std::fs::write(&template, "Q: {{ prompt }} A: {{ response }}").unwrap();
    let ours: fn(&Asked) -> Act =
        |asked| Act::Json(200, json!({"scores": each(&asked.body["items"], |item| json!(points(&item["response"])))}));
    let tei: fn(&Asked) -> Act = |asked| {
        let row =
            |input: &Value| json!([{"score": points(input.as_array().unwrap().last().unwrap()), "label": "LABEL_0"}]);
        Act::Json(200, json!(each(&asked.body["inputs"], row)))
    };
    let vllm: fn(&Asked) -> Act = |asked| {
        let mut rows = each(&asked.body["input"], |text| json!({"probs": [points(text)], "num_classes": 1}));
        rows.iter_mut().enumerate().for_each(|(index, row)| row["index"] = json!(index));
        // The rows say which they are: their order means nothing.
        rows.reverse();
        Act::Json(200, json!({"object": "list", "data": rows}))
    };
    let openrlhf: fn(&Asked) -> Act =
        |asked| Act::Json(200, json!({"rewards": each(&asked.body["query"], |text| json!(points(text)))}));
    for (settings, script, key) in [
        (json!({}), ours, "items"),
        (json!({"format": "tei"}), tei, "inputs"),
        (json!({"format": "tei", "template": template}), tei, "inputs"),
        (json!({"format": "vllm", "model": "rm", "template": template}), vllm, "input"),
        (json!({"format": "openrlhf"}), openrlhf, "query"),
    ] {
        let server = Server::start(script);
        let mut rm = built(&endpoint(&server.url, settings.clone()));
        let asked = pairs(0, 20);
        let given = verdicts(rm.compare(&asked).unwrap());
        assert!(asked.iter().zip(&given).all(|(pair, verdict)| right(pair) == *verdict), "{settings}");
        let requests = server.asked();
        assert_eq!(requests.len(), 3, "40 texts, 16 at a time");
        assert!(requests.iter().all(|request| request.body[key].as_array().unwrap().len() <= 16));
        assert_eq!(rm.score(&[Item::new("p", "good")]).unwrap().unwrap(), [1.0]);
    }
}

#[test]
fn a_score_that_is_none_or_belongs_to_nobody_abstains() {
    /// A body for so many items.
    type Body = fn(usize) -> Vec<u8>;
    let answers: [(&str, Body); 9] = [
        ("not_a_number", |count| format!("{{\"scores\": {:?}}}", vec![f64::NAN; count]).into_bytes()),
        ("not_a_number", |count| json!({"scores": vec![Value::Null; count]}).to_string().into_bytes()),
        ("not_a_number", |count| format!("{{\"scores\": [{}]}}", vec!["-Infinity"; count].join(",")).into_bytes()),
        ("malformed", |count| json!({"scores": vec![1.0; count - 1]}).to_string().into_bytes()),
        ("malformed", |count| json!({"scores": vec![1.0; count + 1]}).to_string().into_bytes()),
        ("malformed", |count| json!({"scores": vec!["1.0"; count]}).to_string().into_bytes()),
        ("malformed", |_| json!({"scores": 1.0}).to_string().into_bytes()),
        ("malformed", |_| json!([1.0]).to_string().into_bytes()),
        ("malformed", |_| b"[".repeat(100_000)),
    ];
    for (reason, body) in answers {
        let script = move |asked: &Asked| {
            let count = asked.body["items"].as_array().unwrap().len();
            Act::With(200, "content-type: application/json".into(), body(count))
        };
        let server = Server::start(script);
        for time in 0..50 {
            let mut rm = built(&endpoint(&server.url, json!({})));
            for verdict in verdicts(rm.compare(&pairs(time * 10, 4)).unwrap()) {
                assert!(matches!(&verdict, Verdict::Abstain(why) if why.reason() == reason), "{verdict:?}");
            }
        }
    }
}

#[test]
fn rows_with_indices_that_are_no_order_abstain() {
    for index in [json!([0, 0]), json!([1, 2]), json!([0, "1"]), json!([-1, 0])] {
        let server = Server::start(move |_| {
            let row = |at: usize| json!({"index": index[at], "probs": [1.0]});
            Act::Json(200, json!({"data": [row(0), row(1)]}))
        });
        let folder = tempfile::tempdir().unwrap();
        let template = folder.path().join("t");
        std::fs::write(&template, "{{ response }}").unwrap();
        let mut rm = built(&endpoint(&server.url, json!({"format": "vllm", "template": template})));
        let given = verdicts(rm.compare(&pairs(0, 1)).unwrap());
        assert!(matches!(given[0], Verdict::Abstain(Abstention::Malformed(_))), "{given:?}");
    }
}

#[test]
fn a_model_of_two_labels_has_no_reward() {
    let server = Server::start(|_| {
        let label = |name: &str| json!({"score": 0.5, "label": name});
        Act::Json(200, json!([[label("a"), label("b")], [label("a"), label("b")]]))
    });
    let given = verdicts(built(&endpoint(&server.url, json!({"format": "tei"}))).compare(&pairs(0, 1)).unwrap());
    assert!(matches!(given[0], Verdict::Abstain(Abstention::Malformed(_))), "{given:?}");
}

#[test]
fn a_rating_is_a_score_and_each_response_is_rated_once() {
    let rate = |asked: &Asked| {
        let text = asked.body["messages"][0]["content"].as_str().unwrap().to_owned();
        let is_good = text.split_once("[The response]\n").unwrap().1.starts_with("good");
        assert!(text.contains("from -2 (worst) to 2 (best)"), "{text}");
        says(if is_good { "Rating: 1.5" } else { "-1" })
    };
    let server = Server::start(rate);
    let settings = quick(&server.url, &json!({"mode": "score", "scale": [-2, 2]}));
    let mut judge = built(&settings);
    let asked = pairs(0, 4);
    let judged = judge.compare(&asked).unwrap();
    assert_eq!(judged[0].scores, Some([1.5, -1.0]));
    assert!(asked.iter().zip(verdicts(judged)).all(|(pair, verdict)| right(pair) == verdict));
    assert_eq!(server.asked().len(), 8);
    let server = Server::start(|_| says("3"));
    let given =
        verdicts(built(&quick(&server.url, &json!({"mode": "score", "scale": [-2, 2]}))).compare(&asked).unwrap());
    assert!(given.iter().all(|verdict| matches!(verdict, Verdict::Abstain(Abstention::Malformed(_)))), "{given:?}");
}

#[test]
fn a_panel_asks_each_member_and_says_how_far_they_agree() {
    let honest = Server::start(crate::server::honest);
    let second = Server::start(|_| says("B"));
    let member = |server: &Server, more: Value| quick(&server.url, &more);
    let given_order = json!({"order": "given"});
    let panel = json!([member(&honest, json!({})), "lexicon", member(&second, given_order)]);
    let mut panel = with_cache(&panel, None).unwrap();
    let asked = pairs(0, 10);
    let given = verdicts(panel.compare(&asked).unwrap());
    assert!(asked.iter().zip(&given).all(|(pair, verdict)| right(pair) == *verdict), "{given:?}");
    let statistics = panel.statistics();
    let agreement = statistics.agreement.clone().unwrap();
    assert_eq!(agreement.between.iter().map(|two| two.agreed).collect::<Vec<_>>(), [10, 5, 5]);
    let lines = statistics.lines().join("\n");
    assert!(lines.contains("1-2 10/10, 1-3 5/10, 2-3 5/10") && lines.contains("alpha"), "{lines}");
    assert_eq!(statistics.members[0].1.asked, 10);
}
