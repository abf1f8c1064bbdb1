//! Annotators behind HTTP through the binary: verdicts, exit codes, what is asked again and what is never told.
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use super::{
    bpo::{Run, arg, bpo_with, file},
    server::{Act, Asked, Server, honest, says, shown},
};

const CANARY: &str = "sk-canary-77e1";

const ROWS: &str = r#"{"prompt":"p","completions":["bad 1","good 1","bad 2"]}
{"prompt":"q","completions":["good 2","bad 3"]}
"#;

/// A place for answers and the key, and the judge's settings as a flag.
struct Setting {
    home: TempDir,
}

impl Setting {
    fn new() -> Self {
        Self { home: tempdir().unwrap() }
    }

    fn bpo(&self, args: &[&str]) -> Run {
        bpo_with(&[("XDG_CACHE_HOME", arg(self.home.path())), ("JUDGE_KEY", CANARY), ("NO_PROXY", "*")], args)
    }

    fn annotate(&self, judge: &str, more: &[&str]) -> Run {
        let (_dir, rows) = file("rows.jsonl", ROWS);
        self.bpo(&[&["annotate", "--responses", arg(&rows), "--annotator", judge], more].concat())
    }
}

fn judge(server: &Server) -> String {
    format!(
        "{{ kind = \"chat\", url = \"{}/v1\", model = \"m\", api_key_env = \"JUDGE_KEY\", backoff_s = 0.001, timeout_s = 2 }}",
        server.url
    )
}

/// Likes the longer response.
fn longer(asked: &Asked) -> Act {
    let [a, b] = shown(asked).map(|text| text.len());
    says(if a > b { "A" } else { "B" })
}

#[test]
fn a_judge_makes_pairs_and_is_not_asked_again() {
    let (setting, server) = (Setting::new(), Server::start(honest));
    for puts in [4, 0] {
        server.forget();
        let run = setting.annotate(&judge(&server), &[]);
        let row = |p: &str, good: &str, bad: &str| json!({"prompt": p, "chosen": good, "rejected": bad});
        assert_eq!(run.rows(), [row("p", "good 1", "bad 1"), row("q", "good 2", "bad 3")]);
        assert_eq!(server.asked().len(), puts);
        let told = format!("{puts} asked, {} answered by the cache", 4 - puts);
        assert!(run.stderr.contains(&told) && run.stderr.contains("random order"), "{}", run.stderr);
    }
    let run = setting.annotate(&judge(&server), &["--both-orders"]);
    assert!(run.stderr.contains("0 of 4 verdicts changed with the order"), "{}", run.stderr);
}

#[test]
fn an_address_alone_is_a_judge_and_a_recipe_names_one() {
    let setting = Setting::new();
    let server = Server::start(|asked| match asked.head.starts_with("GET /v1/models ") {
        true => Act::Json(200, json!({"data": [{"id": "only"}]})),
        false => honest(asked),
    });
    assert_eq!(setting.annotate(&format!("{}/v1", server.url), &[]).rows().len(), 2);
    let recipe = format!("beta = 0.2\nannotator = {}\n", judge(&server));
    let (_dir, recipe) = file("judge.toml", &recipe);
    assert_eq!(setting.annotate(arg(&recipe), &[]).rows().len(), 2);
    let (_dir, recipe) = file("none.toml", "beta = 0.2\n");
    setting.annotate(arg(&recipe), &[]).refused(2, &["none.toml has no `annotator`"]);
}

#[test]
fn a_service_that_cannot_judge_exits_5_and_shows_the_status_but_not_the_key() {
    let echo = |asked: &Asked| {
        let key = asked.head.lines().find_map(|line| line.split_once("Bearer ")).map_or("", |(_, key)| key.trim());
        Act::Json(401, json!({"error": {"message": format!("Incorrect API key provided: {key}")}}))
    };
    type Script = fn(&Asked) -> Act;
    let scripts: [(Script, &[&str]); 4] = [
        (echo, &["HTTP 401", "api_key_env", "****"]),
        (|_| Act::With(404, "x: y".into(), b"<html>no such page</html>".into()), &["HTTP 404", "no such page", "/v1"]),
        (|_| Act::With(200, "x: y".into(), b"<html>hello</html>".into()), &["no verdict at all", "HTTP 200", "hello"]),
        (|_| Act::Json(500, json!({"detail": "boom"})), &["no verdict at all", "HTTP 500", "boom", "4 tries"]),
    ];
    for (script, words) in scripts {
        let run = Setting::new().annotate(&judge(&Server::start(script)), &[]);
        run.refused(5, words);
        assert!(!run.stderr.contains("canary"), "{}", run.stderr);
    }
}

#[test]
fn a_setting_that_cannot_work_exits_2_and_tells_no_secret() {
    let (setting, server) = (Setting::new(), Server::start(honest));
    let with = |key: &str, value: &str| {
        let (head, tail) = (judge(&server), format!(", {key} = {value} }}"));
        head.trim_end_matches(" }").to_owned() + &tail
    };
    for (flag, words) in [
        ("http://ann:canary@localhost/v1".to_owned(), &["user name or a password"][..]),
        (with("api_key", "'canary'"), &["`api_key`", "api_key_env"]),
        (with("tries", "5"), &["`tries` is 5", "1 to 4"]),
        (with("timeout", "5"), &["`timeout`", "`timeout_s`"]),
        (with("scale", "[1, 5]"), &["`scale` has no effect"]),
        (with("extra_body", "{ messages = 1 }"), &["extra_body.messages"]),
        (judge(&server).replace("JUDGE_KEY", "NO_KEY_HERE"), &["NO_KEY_HERE is not set"]),
        (judge(&server).replace("JUDGE_KEY", "sk-canary"), &["name of an environment variable"]),
        ("[ 'lexicon' ]".to_owned(), &["at least two"]),
    ] {
        let run = setting.annotate(&flag, &[]);
        run.refused(2, words);
        assert!(!run.stderr.contains("canary"), "{}", run.stderr);
    }
    assert!(server.asked().is_empty());
}

#[test]
fn a_panel_decides_by_majority_and_tells_how_far_it_agrees() {
    let server = Server::start(|_| says("tie"));
    let panel = format!("[ {{ kind = 'length' }}, {{ kind = 'regex', pattern = 'good' }}, {} ]", judge(&server));
    let run = Setting::new().annotate(&panel, &[]);
    let chosen: Vec<Value> = run.rows().iter().map(|row| row["chosen"].clone()).collect();
    assert_eq!(chosen, ["good 1", "good 2"]);
    assert!(run.stderr.contains("Krippendorff's alpha") && run.stderr.contains("1-2 4/4"), "{}", run.stderr);
}

#[test]
fn ratings_are_scores_and_a_row_without_one_is_null() {
    let rate = |asked: &Asked| {
        let text = asked.body["messages"][0]["content"].as_str().unwrap().to_owned();
        says(if text.contains("good") { "8" } else { "I cannot say" })
    };
    let (setting, server) = (Setting::new(), Server::start(rate));
    let (_dir, rows) =
        file("rows.jsonl", "{\"prompt\":\"p\",\"response\":\"good\"}\n{\"prompt\":\"p\",\"response\":\"bad\"}\n");
    let flag = judge(&server).replace("model = \"m\"", "model = \"m\", mode = \"score\"");
    let run = setting.bpo(&["score", "--input", arg(&rows), "--annotator", &flag]);
    assert_eq!(run.rows(), [json!({"score": 8.0}), json!({"score": null})]);
    assert!(run.stderr.contains("1 malformed") && run.stderr.contains("1 of 2 rows"), "{}", run.stderr);
    let run = setting.bpo(&["score", "--input", arg(&rows), "--annotator", &judge(&server)]);
    run.refused(2, &["only compares"]);
    let run = setting.bpo(&["score", "--input", arg(&rows), "--annotator", "length"]);
    assert_eq!(run.rows(), [json!({"score": 4.0}), json!({"score": 3.0})]);
}

#[test]
fn an_evaluation_asks_a_judge() {
    let (setting, server) = (Setting::new(), Server::start(longer));
    let args = ["eval", "--max-new-tokens", "4", "--size", "3", "--json", "--annotator", &judge(&server)];
    let run = setting.bpo(&args);
    assert_eq!(run.rows()[3]["totals"]["reference_win_rate"]["mean"], 0.0, "the references are longer");
    assert!(run.stderr.contains("3 asked"), "{}", run.stderr);
}

/// All bytes of a folder, names included.
fn everything(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        all += &entry.path().display().to_string();
        match entry.path().is_dir() {
            true => all += &everything(&entry.path()),
            false => all += &String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()),
        }
    }
    all
}

#[test]
fn a_run_whose_judge_fails_stops_with_5_keeps_its_steps_and_goes_on_without_asking_twice() {
    let setting = Setting::new();
    let is_down = Arc::new(AtomicBool::new(false));
    let down = Arc::clone(&is_down);
    let server = Server::start(move |asked| {
        if asked.number == 30 {
            down.store(true, Ordering::SeqCst);
        }
        match down.load(Ordering::SeqCst) {
            true => Act::With(503, format!("x-told: {CANARY}"), format!("no {CANARY}").into_bytes()),
            false => longer(asked),
        }
    });
    let dir = setting.home.path().join("run");
    let annotator = format!("annotator={}", judge(&server));
    let sets = [
        "max_steps=12",
        "per_device_train_batch_size=4",
        "max_new_tokens=8",
        "eval_size=0",
        "save_steps=100",
        &annotator,
    ];
    let mut args = vec!["train", "--run-dir", arg(&dir)];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    let run = setting.bpo(&args);
    assert_eq!(run.code, 5, "{}", run.stderr);
    assert!(run.stderr.contains("no answer to") && run.stderr.contains("HTTP 503"), "{}", run.stderr);
    let steps = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap().lines().count();
    assert!((5..12).contains(&steps), "{steps}");
    let answered: Vec<Value> = server.asked().into_iter().take(30).map(|asked| asked.body).collect();
    let told = [run.stdout, run.stderr, everything(setting.home.path())].concat();
    assert!(!told.contains("canary"), "the key was told");

    is_down.store(false, Ordering::SeqCst);
    server.forget();
    // Another deadline is no other run.
    let args: Vec<String> = args.iter().map(|text| text.replace("timeout_s = 2", "timeout_s = 3")).collect();
    let run = setting.bpo(&args.iter().map(String::as_str).collect::<Vec<_>>());
    run.succeeded();
    assert!(run.stderr.contains(&format!("continuing after step {steps} of 12")), "{}", run.stderr);
    assert!(server.asked().iter().all(|asked| !answered.contains(&asked.body)), "a question was put twice");
    let report: Value = serde_json::from_slice(&std::fs::read(dir.join("finished.json")).unwrap()).unwrap();
    assert!(report["annotator_statistics"]["asked"].as_u64().unwrap() > 0, "{report}");
    assert!(run.stdout.contains("random order"), "{}", run.stdout);
    assert!(!everything(setting.home.path()).contains("canary"), "the key was told");
}
