//! Nothing is paid for twice, and no more than allowed.
use std::path::Path;

use bpo_annotate::{Error, Verdict};
use serde_json::json;

use crate::{
    built, pairs, quick, right,
    server::{Server, honest, says},
    verdicts, with_cache,
};

fn cached(server: &Server, more: serde_json::Value, folder: &Path) -> Box<dyn bpo_annotate::Annotator + Send> {
    let mut settings = quick(&server.url, &more);
    settings["cache"] = json!(true);
    with_cache(&settings, Some(folder)).unwrap()
}

#[test]
fn no_question_is_put_twice_even_by_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(honest);
    let asked = pairs(0, 30);
    let twice: Vec<_> = asked.iter().chain(&asked).cloned().collect();
    for (run, puts) in [30, 0, 0].into_iter().enumerate() {
        server.forget();
        let mut judge = cached(&server, json!({}), folder.path());
        let given = verdicts(judge.compare(&twice).unwrap());
        assert!(twice.iter().zip(&given).all(|(pair, verdict)| right(pair) == *verdict), "run {run}");
        assert_eq!(server.asked().len(), puts, "run {run}");
        let statistics = judge.statistics();
        assert_eq!((statistics.asked, statistics.cached), (puts as u64, 30 - puts as u64));
    }
    // The same pair given the other way round is the same question, and its answer is turned round.
    let swapped: Vec<_> = asked.iter().map(bpo_annotate::Comparison::swap).collect();
    let given = verdicts(cached(&server, json!({}), folder.path()).compare(&swapped).unwrap());
    assert!(swapped.iter().zip(&given).all(|(pair, verdict)| right(pair) == *verdict));
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn what_decides_an_answer_decides_whether_it_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(honest);
    let template = folder.path().join("judge.jinja");
    std::fs::write(&template, "{{ prompt }}\n[Response A]\n{{ first }}\n[The end of response A]\n[Response B]\n{{ second }}\n[The end of response B]").unwrap();
    for (more, puts) in [
        (json!({}), 4),
        (json!({"tries": 1, "concurrency": 1, "timeout_s": 1.0}), 0),
        (json!({"model": "another"}), 4),
        (json!({"temperature": 0.5}), 4),
        (json!({"max_new_tokens": 9}), 4),
        (json!({"system": "be fair"}), 4),
        (json!({"template": template}), 4),
        (json!({"extra_body": {"seed": 1}}), 4),
        (json!({"both_orders": true}), 4),
        (json!({}), 0),
    ] {
        server.forget();
        cached(&server, more.clone(), folder.path()).compare(&pairs(0, 4)).unwrap();
        assert_eq!(server.asked().len(), puts, "{more}");
    }
}

#[test]
fn an_abstention_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|asked| if asked.number == 0 { says("hm") } else { honest(asked) });
    let asked = pairs(0, 1);
    let ask = || verdicts(cached(&server, json!({}), folder.path()).compare(&asked).unwrap()).remove(0);
    assert!(matches!(ask(), Verdict::Abstain(_)));
    assert_eq!(ask(), right(&asked[0]));
    assert_eq!(ask(), right(&asked[0]));
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn neither_prompts_nor_responses_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(honest);
    cached(&server, json!({}), folder.path()).compare(&pairs(0, 5)).unwrap();
    let mut files = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert_eq!(text.lines().count(), 5);
        assert!(!text.contains("good") && !text.contains("question"), "{text}");
        files += 1;
    }
    assert_eq!(files, 1);
}

#[test]
fn a_budget_ends_the_questions_and_keeps_the_answers() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(honest);
    let ask = |more| cached(&server, more, folder.path()).compare(&pairs(0, 20));
    let error = ask(json!({"budget_questions": 7})).unwrap_err();
    assert!(matches!(error, Error::Budget { what: "questions", limit: 7 }), "{error}");
    assert_eq!(server.asked().len(), 7);
    // 91 tokens each, as the server counts them: the fourth answer is over 300.
    let error = ask(json!({"budget_tokens": 300, "concurrency": 1})).unwrap_err();
    assert!(matches!(error, Error::Budget { what: "tokens", limit: 300 }), "{error}");
    assert_eq!(server.asked().len(), 11);
    assert_eq!(ask(json!({})).unwrap().len(), 20);
    assert_eq!(server.asked().len(), 20);
    // What is known costs nothing.
    assert_eq!(ask(json!({"budget_questions": 0})).unwrap().len(), 20);
}

#[test]
fn what_was_done_is_counted() {
    let server = Server::start(|asked| match asked.number {
        0 => crate::server::Act::Json(503, json!({})),
        1 => says("hm"),
        _ => honest(asked),
    });
    let mut judge = built(&quick(&server.url, &json!({"concurrency": 1, "both_orders": true})));
    judge.compare(&pairs(0, 10)).unwrap();
    let statistics = judge.statistics();
    assert_eq!((statistics.asked, statistics.retries, statistics.tokens), (20, 1, 20 * 91));
    assert_eq!(statistics.abstained, [("malformed".to_owned(), 1)].into());
    assert_eq!(statistics.both_orders.unwrap().asked, 9);
    let lines = statistics.lines().join("\n");
    assert!(
        lines.contains("20 asked") && lines.contains("1 malformed") && lines.contains("0 of 9 verdicts"),
        "{lines}"
    );
}

#[test]
fn the_only_model_of_a_server_is_found_and_several_are_named() {
    let script = |models: &'static [&'static str]| {
        Server::start(move |asked| match asked.head.starts_with("GET /v1/models ") {
            true => {
                let models: Vec<_> = models.iter().map(|id| json!({"id": id, "object": "model"})).collect();
                crate::server::Act::Json(200, json!({"object": "list", "data": models}))
            }
            false => honest(asked),
        })
    };
    let without = |server: &Server| {
        let mut settings = quick(&server.url, &json!({}));
        settings.as_object_mut().unwrap().remove("model");
        with_cache(&settings, None)
    };
    let server = script(&["tiny"]);
    let mut judge = without(&server).unwrap();
    judge.compare(&pairs(0, 1)).unwrap();
    assert_eq!(server.asked()[1].body["model"], "tiny");
    assert!(judge.name().starts_with("tiny at "), "{}", judge.name());
    let error = without(&script(&["one", "two"])).err().unwrap().to_string();
    assert!(error.contains("2 models") && error.contains("one, two"), "{error}");
    let server = Server::start(|_| crate::server::Act::Json(200, json!("hello")));
    let error = without(&server).err().unwrap().to_string();
    assert!(error.contains("HTTP 200") && error.contains("OpenAI-compatible"), "{error}");
}
