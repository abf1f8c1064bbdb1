//! `bpo eval`: whom it compares, what it counts, and what it goes on with.
use std::fs;

use serde_json::{Value, json};

use super::{
    bpo::{arg, bpo, bpo_with, command, file, fixture},
    server::{Server, says, shown},
};

const SMALL: [&str; 5] = ["eval", "--max-new-tokens", "4", "--size", "3"];

fn eval(more: &[&str]) -> super::bpo::Run {
    bpo(&[&SMALL, more].concat())
}

#[test]
fn a_policy_ties_with_itself() {
    let run = eval(&["--against-model", "embedded", "--top-k", "5", "--json"]);
    let rows = run.rows();
    assert_eq!(rows.len(), 4);
    assert!(rows[..3].iter().all(|row| row["win"] == 0.5 && row["response"] == row["against"]), "{}", run.stdout);
    assert_eq!(rows[3]["totals"]["win_rate"]["mean"], 0.5);
}

#[test]
fn the_kl_is_to_the_start_and_missing_where_nobody_says_what_that_is() {
    let (dir, data) = file("data.jsonl", "{\"prompt\":\"Once\",\"completion\":\" upon a time\"}\n");
    let (run, merged) = (dir.path().join("run"), dir.path().join("merged"));
    let recipe = ["model=embedded", "max_steps=4", "learning_rate=1e-2", &format!("data={}", arg(&data))];
    let sets = recipe.into_iter().flat_map(|set| ["--set", set]);
    bpo(&["sft", "--run-dir", arg(&run)].into_iter().chain(sets).collect::<Vec<_>>()).succeeded();
    let adapter = run.join("adapter");
    bpo(&["merge", "--adapter", arg(&adapter), "--dtype", "float32", "--out", arg(&merged)]).succeeded();
    let kl = |args: &[&str]| eval(&[&["--json"], args].concat()).rows().pop().unwrap()["totals"]["kl"].clone();
    let ours = kl(&["--adapter", arg(&adapter)]).as_f64().unwrap();
    assert!(ours.abs() > 1e-2, "{ours}");
    assert_eq!((kl(&["--model", arg(&merged)]), kl(&[])), (Value::Null, Value::Null));
    let whole = kl(&["--model", arg(&merged), "--start-model", "embedded"]).as_f64().unwrap();
    assert!((ours - whole).abs() < 1e-3, "{ours} {whole}");
    let Some(other) = fixture("arch/llama-tied") else { return };
    eval(&["--start-model", arg(&other)]).refused(3, &["--start-model", "tokens"]);
}

#[test]
fn prompts_without_texts_will_do_where_two_policies_are_compared() {
    let (_dir, prompts) = file("p.jsonl", "{\"prompt\":\"A small owl\"}\n{\"prompt\":\"A big dog\"}\n");
    eval(&["--references", arg(&prompts)]).refused(3, &["p.jsonl:1"]);
    for flag in ["--references", "--prompts"] {
        let rows = eval(&[flag, arg(&prompts), "--against-base", "--json"]).rows();
        assert_eq!((rows.len(), &rows[0]["reference"]), (3, &serde_json::Value::Null));
        assert!(rows[2]["totals"]["reference_win_rate"].is_null());
    }
}

#[test]
fn sizes_start_at_one_and_no_prompt_is_bad_input() {
    for flag in ["--size", "--max-new-tokens", "--batch-size"] {
        bpo(&["eval", flag, "0"]).refused(2, &[flag]);
    }
    eval(&["--top-p", "2"]).refused(2, &["top_p"]);
    let (_dir, long) = file("p.jsonl", &format!("{{\"prompt\":\"{}\"}}\n", "word ".repeat(9000)));
    eval(&["--prompts", arg(&long)]).refused(3, &["no prompt is left"]);
}

#[test]
fn what_is_wrong_is_called_what_the_user_gave() {
    let (_dir, prompts) = file("p.jsonl", "{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}]}\n");
    eval(&["--prompts", arg(&prompts)]).refused(3, &["p.jsonl, line 1", "chat template"]);
    bpo(&["eval", "--max-new-tokens", "1000"]).refused(2, &["--max-new-tokens", "1000"]);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Rows of saved responses.
fn saved(name: &str, rows: &[Value]) -> (tempfile::TempDir, std::path::PathBuf) {
    file(name, &rows.iter().map(|row| format!("{row}\n")).collect::<String>())
}

#[test]
fn saved_outputs_need_no_model_and_meet_by_their_prompts() {
    let long = |text: &str, times: usize| text.repeat(times);
    let (_a, ours) = saved(
        "ours.jsonl",
        &[
            json!({"prompt": "p", "completion": long("a", 9)}),
            json!({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "b"}]}),
            json!({"prompt": "p", "completion": "a further one"}),
            json!({"prompt": "only here", "completion": "c"}),
            json!({"prompt": "r", "text": "same"}),
        ],
    );
    let (_b, theirs) = saved(
        "theirs.jsonl",
        &[
            json!({"instruction": "r", "output": "same"}),
            json!({"instruction": "q", "output": "bbb"}),
            json!({"instruction": "p", "output": "a"}),
        ],
    );
    let run =
        bpo(&["eval", "--outputs", arg(&ours), "--against-outputs", arg(&theirs), "--annotator", "length", "--json"]);
    let rows = run.rows();
    let wins: Vec<_> =
        rows[..3].iter().map(|row| (row["prompt"].as_str().unwrap(), row["win"].as_f64().unwrap())).collect();
    assert_eq!(wins, [("p", 1.0), ("q", 0.0), ("r", 0.5)]);
    let totals = &rows[3]["totals"];
    assert_eq!(
        (&totals["win_rate"]["mean"], &totals["length"], &totals["kl"]),
        (&json!(0.5), &Value::Null, &Value::Null)
    );
    assert!(run.stderr.contains("1 further responses") && run.stderr.contains("3 of 4 prompts"), "{}", run.stderr);
    let (_c, others) = saved("others.jsonl", &[json!({"prompt": "x", "completion": "y"})]);
    bpo(&["eval", "--outputs", arg(&ours), "--against-outputs", arg(&others)])
        .refused(3, &["others.jsonl", "none of its 1"]);
    let (_d, bare) = saved("bare.jsonl", &[json!({"completion": "y"})]);
    bpo(&["eval", "--outputs", arg(&bare)]).refused(3, &["bare.jsonl:1"]);
    for flags in [["--model", "embedded"], ["--adapter", "x"], ["--tokenizer", "x"], ["--against-adapter", "x"]] {
        bpo(&[&["eval", "--outputs", arg(&ours)], &flags[..]].concat()).refused(2, &[flags[0]]);
    }
}

#[test]
fn a_judge_of_length_alone_wins_by_length_and_not_at_equal_lengths() {
    let rows = |extra: usize| -> Vec<Value> {
        // Of 60 pairs, ours is the longer text in 45.
        let row =
            |i: usize| json!({"prompt": format!("p{i}"), "completion": "x".repeat(100 + extra * ((i * 37) % 60))});
        (0..60).map(row).collect()
    };
    let theirs: Vec<Value> =
        (0..60).map(|i| json!({"prompt": format!("p{i}"), "completion": "x".repeat(129)})).collect();
    let ((_a, ours), (_b, theirs)) = (saved("ours.jsonl", &rows(2)), saved("theirs.jsonl", &theirs));
    let args = ["eval", "--outputs", arg(&ours), "--against-outputs", arg(&theirs), "--annotator", "length", "--json"];
    let totals = bpo(&args).rows().pop().unwrap()["totals"].clone();
    assert_eq!(totals["win_rate"]["mean"], 0.75);
    let controlled = totals["win_rate_length_controlled"]["mean"].as_f64().unwrap();
    assert!((controlled - 0.5).abs() < 0.1, "{controlled}");
}

#[test]
fn a_table_has_the_rows_and_the_totals_their_distributions() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("rows.csv");
    let rows = eval(&["--csv", arg(&table), "--json"]).rows();
    let mut reader = csv::Reader::from_path(&table).unwrap();
    let columns = reader.headers().unwrap().iter().map(str::to_owned).collect::<Vec<_>>();
    let named =
        ["prompt", "response", "reference", "score", "reference_win", "against", "against_score", "win", "length"];
    assert_eq!(columns, named);
    for (record, row) in reader.records().map(Result::unwrap).zip(&rows[..3]) {
        assert_eq!((&record[0], &record[1], &record[5]), (text(&row["prompt"]), text(&row["response"]), ""));
        assert_eq!(record[3].parse::<f64>().ok(), row["score"].as_f64());
    }
    let totals = &rows[3]["totals"];
    let bins = totals["score_distribution"]["histogram"].as_array().unwrap();
    assert_eq!(bins.iter().filter_map(Value::as_u64).sum::<u64>(), 3);
    assert!(totals["distinct_2"].as_f64().unwrap() > 0.0 && totals["annotator_trained_policy"] == false);
    let lines = eval(&[]).stdout;
    for name in ["score_quantiles", "reference_win_rate_length_controlled", "self_overlap"] {
        assert!(lines.contains(name), "{lines}");
    }
    eval(&["--csv", "/nowhere/rows.csv"]).refused(3, &["/nowhere/rows.csv"]);
}

#[test]
fn the_judge_that_trained_the_adapter_is_told_apart_from_another() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let sets =
        ["max_steps=1", "per_device_train_batch_size=2", "max_new_tokens=4", "eval_size=0", "collection_phases=1"];
    let sets = sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>();
    bpo(&[&["train", "--run-dir", arg(&run)], &sets[..]].concat()).succeeded();
    let adapter = run.join("adapter");
    let said = |annotator: &str| eval(&["--adapter", arg(&adapter), "--annotator", annotator]).stdout;
    assert!(said("lexicon").contains("this annotator trained the policy"));
    assert!(!said("length").contains("this annotator trained the policy"));
}

/// Likes the longer response.
fn longer(asked: &super::server::Asked) -> super::server::Act {
    let [a, b] = shown(asked).map(|text| text.len());
    says(if a > b { "A" } else { "B" })
}

#[test]
fn an_evaluation_that_is_killed_goes_on_and_asks_nothing_twice() {
    let server = Server::start(longer);
    let judge = format!(
        "{{ kind = \"chat\", url = \"{}/v1\", model = \"m\", cache = false, concurrency = 1, backoff_s = 0.001 }}",
        server.url
    );
    let rows = |extra: usize| -> Vec<Value> {
        (0..100).map(|i| json!({"prompt": format!("p{i}"), "completion": "x".repeat(1 + (i * extra) % 83)})).collect()
    };
    let ((_a, ours), (_b, theirs)) = (saved("ours.jsonl", &rows(7)), saved("theirs.jsonl", &rows(11)));
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let args = |folder: &std::path::Path| {
        let judged =
            ["eval", "--outputs", arg(&ours), "--against-outputs", arg(&theirs), "--annotator", &judge, "--json"];
        [&judged[..], &["--run-dir", arg(folder)]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |folder: &std::path::Path| {
        let args = args(folder);
        bpo_with(&[("NO_PROXY", "*")], &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let whole = run(&one);
    whole.succeeded();
    let questions = server.asked().len();
    let interrupted = args(&other);
    let mut child = command(&interrupted.iter().map(String::as_str).collect::<Vec<_>>());
    let mut child = child
        .env("NO_PROXY", "*")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let recorded = || bpo_store::JournalView::open(&other).map_or(0, |journal| journal.records().count());
    let began = std::time::Instant::now();
    while recorded() == 0 && child.try_wait().unwrap().is_none() {
        assert!(began.elapsed().as_secs() < 60);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = recorded();
    let resumed = run(&other);
    assert_eq!(resumed.stdout, whole.stdout);
    // What was on its way when it was killed is asked again, a batch of 32 at most.
    let again = server.asked().len() - 2 * questions;
    assert!(before > 0 && again <= 32, "{again} of {questions} questions were asked twice");
    let asked = server.asked().len();
    assert_eq!(run(&other).stdout, whole.stdout);
    assert_eq!(server.asked().len(), asked);
    fs::write(&theirs, "{\"prompt\":\"p1\",\"completion\":\"other\"}\n").unwrap();
    run(&other).refused(2, &["against_outputs changed"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_at_once() {
    use std::{
        io::{BufRead, BufReader},
        os::unix::process::ExitStatusExt,
        process::{Command, Stdio},
    };
    if sigint_is_ignored() {
        println!("skipped: SIGINT is ignored here, as in a background job, and so in every child");
        return;
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_bpo"))
        .args(["eval", "--size", "500", "--max-new-tokens", "200", "--batch-size", "1"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // Kept open until the end: who cannot say how far it is ends in another way.
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("device"), "{line}");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    drop(stderr);
}

/// Bit 1 of `SigIgn` is signal 2. Where there is no /proc it is taken not to be.
#[cfg(unix)]
fn sigint_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & 2 != 0)
}
