//! `bpo reward train`, and judges that are models of this machine.
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::tempdir;

use super::bpo::{Run, arg, bpo, bpo_reading, file, json as read};

fn story() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/story")
}

/// Fits the story model to its pairs, in `dir`.
fn train(dir: &Path, more: &[&str]) -> Run {
    let (model, tokenizer) = (story().join("model"), story());
    let model = format!("model={}", arg(&model));
    let tokenizer = format!("tokenizer={}", arg(&tokenizer));
    let sets = [&model, &tokenizer, "pairs=embedded", "max_length=128", "lora_r=4", "save_steps=5"];
    let sets = sets.into_iter().chain(more.iter().copied()).flat_map(|set| ["--set", set]);
    bpo(&["reward", "train", "--run-dir", arg(dir)].into_iter().chain(sets).collect::<Vec<_>>())
}

#[test]
fn a_reward_model_learns_the_storys_preferences_and_judges() {
    let dir = tempdir().unwrap();
    let run = dir.path().join("run");
    let done = train(&run, &["tuning=full", "max_steps=40", "learning_rate=1e-3"]);
    done.succeeded();
    assert!(done.stdout.contains("% in order (95 % interval") && done.stdout.contains("report:"), "{}", done.stdout);
    let evaluation = &read(&run.join("finished.json"))["evaluation"];
    assert!(evaluation["accuracy"]["mean"].as_f64().unwrap() > 0.6, "{evaluation}");
    let pairs = evaluation["bins"].as_array().unwrap().iter().map(|bin| bin["pairs"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(Some(pairs), evaluation["pairs"].as_u64());
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    for part in
        ["held-out pairs", "in order, %", "expected calibration error", "<h3>Calibration</h3>", "Tokens per second"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("Implicit rewards"), "a reward model has no policy");
    // Happy beats sad, for whoever asks the model.
    let rows = "{\"prompt\":\"Once there was a dog.\",\"completions\":[\" He was very happy and they all laughed.\",\
                \" He was sad, he fell and cried.\"]}\n";
    let model = run.join("model");
    let judged = bpo_reading(rows, &["annotate", "--annotator", arg(&model)]).rows();
    assert!(judged[0]["chosen"].as_str().unwrap().contains("happy"), "{judged:?}");
    assert!(train(&run, &["tuning=full", "max_steps=40", "learning_rate=1e-3"]).stdout.contains("is finished"));
}

#[test]
fn lora_leaves_an_adapter_beside_the_model_and_a_run_goes_on_with_the_same_settings_only() {
    let dir = tempdir().unwrap();
    let run = dir.path().join("run");
    train(&run, &["max_steps=6"]).succeeded();
    let adapter = read(&run.join("adapter/adapter_config.json"));
    assert_eq!((&adapter["task_type"], &adapter["modules_to_save"]), (&json!("SEQ_CLS"), &json!(["score"])));
    let config = read(&run.join("model/config.json"));
    assert_eq!(config["architectures"], json!(["LlamaForSequenceClassification"]));
    assert!(run.join("model/tokenizer.json").is_file() && run.join("report.html").is_file());
    let report = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("bpo reward train"), "the command that makes the run again");
    train(&run, &["max_steps=7"]).refused(2, &["max_steps: 6 there, 7 now"]);
}

#[test]
fn what_cannot_be_trained_is_refused_by_name() {
    let dir = tempdir().unwrap();
    let run = dir.path().join("run");
    let refused = |set: &str, code: i32, words: &[&str]| train(&run, &[set]).refused(code, words);
    refused("tuning=all", 2, &["tuning", "head"]);
    refused("eval_share=2", 2, &["eval_share"]);
    refused("model=/nowhere/m", 3, &["/nowhere/m"]);
    refused("model=embedded", 2, &["model"]);
    refused("pairs=/nowhere.jsonl", 3, &["/nowhere.jsonl"]);
    refused("lora_target_modules=[\"nothing\"]", 2, &["lora_target_modules", "q_proj"]);
    assert!(!run.join("metrics.jsonl").exists());
}

const ROWS: &str = "{\"prompt\":\"Say hello.\",\"completions\":[\" Hello there!\",\" No.\"]}\n\
                    {\"prompt\":\"Count to two.\",\"completions\":[\" One, two.\",\" Fish\"]}\n";

fn ask(annotator: &Value, more: &[&str]) -> Run {
    let (dir, recipe) = file("judge.toml", &format!("annotator = {}", inline(annotator)));
    std::fs::write(dir.path().join("compare.jinja"), "{{ prompt }} A: {{ first }} B: {{ second }} The better one:")
        .unwrap();
    std::fs::write(dir.path().join("rate.jinja"), "{{ prompt }} {{ response }} From {{ lowest }} to {{ highest }}:")
        .unwrap();
    bpo_reading(ROWS, &[&["annotate", "--annotator", arg(&recipe)], more].concat())
}

/// A JSON object as TOML's inline table.
fn inline(value: &Value) -> String {
    let pairs = value.as_object().unwrap().iter().map(|(key, value)| format!("{key} = {value}"));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

#[test]
fn the_engine_judges_deterministically_in_both_orders_and_tells_its_bias() {
    let judge = json!({"kind": "judge", "model": "embedded", "both_orders": true, "template": "compare.jinja"});
    let first = ask(&judge, &[]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(first.stderr.contains("both orders: ") && first.stderr.contains("4 asked"), "{}", first.stderr);
    assert_eq!(first.stdout, ask(&judge, &[]).stdout);
}

#[test]
fn ratings_of_the_engine_are_means_on_the_scale() {
    let judge =
        json!({"kind": "judge", "model": "embedded", "mode": "score", "scale": [1, 5], "template": "rate.jinja"});
    let rows = ask(&judge, &["--scores"]).rows();
    let scores: Vec<f64> = rows.iter().map(|row| row["score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 4 && scores.iter().all(|score| (1.0..=5.0).contains(score)), "{scores:?}");
}

#[test]
fn a_judge_that_cannot_be_is_refused_by_its_key() {
    let refused = |judge: Value, code: i32, words: &[&str]| ask(&judge, &[]).refused(code, words);
    refused(json!({"kind": "judge", "model": "/nowhere/m"}), 3, &["/nowhere/m"]);
    refused(json!({"kind": "judge", "model": "embedded", "scale": [1, 5]}), 2, &["scale"]);
    refused(json!({"kind": "judge", "model": "embedded", "max_new_tokens": 4}), 2, &["max_new_tokens", "reply"]);
    refused(json!({"kind": "pair_ranker", "path": "/nowhere/m"}), 3, &["/nowhere/m"]);
    refused(json!({"kind": "pair_ranker", "path": arg(&story().join("model"))}), 3, &["encoder"]);
    refused(json!({"kind": "pair_ranker", "path": "/x", "both_orders": true}), 2, &["both_orders"]);
}
