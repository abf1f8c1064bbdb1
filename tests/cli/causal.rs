//! `bpo train` on texts with outcomes.
use std::path::Path;

use tempfile::tempdir;

use super::bpo::{arg, bpo, file};

/// A short run of the recipe inside the program.
const SHORT: [&str; 12] = [
    "--set",
    "outcomes=embedded",
    "--set",
    "max_steps=3",
    "--set",
    "per_device_train_batch_size=4",
    "--set",
    "max_new_tokens=16",
    "--set",
    "eval_size=4",
    "--set",
    "save_steps=2",
];

fn train(dir: &Path, more: &[&str]) -> super::bpo::Run {
    bpo(&[&["train", "--run-dir", arg(dir)], &SHORT[..], more].concat())
}

#[test]
fn every_estimator_trains_the_embedded_model_and_ends_in_the_usual_table() {
    let dir = tempdir().unwrap();
    for sets in [
        &["causal_estimator=ipw"][..],
        &["causal_estimator=dr"],
        &["causal_estimator=dr", "causal_form=official", "self_normalised=false"],
    ] {
        let run = dir.path().join(sets.join("-"));
        let more: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        let trained = train(&run, &more);
        trained.succeeded();
        for word in ["3 steps, 12 texts", "mean score", "win rate vs start", "KL to start"] {
            assert!(trained.stdout.contains(word), "`{word}` is not in: {}", trained.stdout);
        }
        assert!(run.join("adapter/adapter_model.safetensors").is_file());
        assert!(train(&run, &more).stdout.contains("finished"));
    }
}

#[test]
fn evaluations_on_the_way_are_on_the_curve_and_tokens_of_responses_are_coloured() {
    let dir = tempdir().unwrap();
    let run = dir.path().join("run");
    let trained = train(&run, &["--set", "eval_steps=1"]);
    trained.succeeded();
    assert!(
        trained.stderr.contains("step 1: win rate") && trained.stderr.contains("step 3: win rate"),
        "{}",
        trained.stderr
    );
    let finished = super::bpo::json(&run.join("finished.json"));
    let steps: Vec<u64> =
        finished["curve"].as_array().unwrap().iter().map(|point| point["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 1, 2, 3]);
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("what training did to a token") && page.contains("log-ratio "), "no colours");
    assert!(run.join("figures/win_rate.svg").is_file());
    train(&run, &["--set", "eval_strategy=phase"]).refused(2, &["eval_strategy", "phases of data collection"]);
}

#[test]
fn the_recipe_in_the_repository_is_the_one_inside_of_the_program() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/story-causal.toml");
    let dir = tempdir().unwrap();
    let run = dir.path().join("run");
    train(&run, &["--recipe", arg(&recipe)]).succeeded();
    assert!(train(&run, &[]).stdout.contains("finished"));
}

#[test]
fn what_is_wrong_with_outcomes_is_named() {
    let dir = tempdir().unwrap();
    let run = dir.path().join("run");
    let (_rows, no_outcome) = file("rows.jsonl", "{\"text\":\"a\",\"outcome\":1}\n{\"text\":\"b\"}\n");
    let no_outcome = format!("outcomes={}", arg(&no_outcome));
    for (sets, code, words) in [
        (&["outcomes=/nowhere.jsonl"][..], 3, &["/nowhere.jsonl"][..]),
        (&[no_outcome.as_str()], 3, &["rows.jsonl:2", "`outcome` is missing"]),
        (&["causal_estimater=dr"], 2, &["causal_estimater", "did you mean `causal_estimator`"]),
        (&["beta=0.1"], 2, &["beta"]),
        (&["ratio_clip=[2, 1]"], 2, &["ratio_clip"]),
        (
            &["causal_form=official", "self_normalised=false", "per_device_train_batch_size=1"],
            2,
            &["softmax over the batch"],
        ),
        (
            &["causal_estimator=dr", "annotator.kind=command", "annotator.program=['true']", "annotator.mode=compare"],
            2,
            &["scores"],
        ),
    ] {
        let more: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        train(&run, &more).refused(code, words);
    }
    train(&run, &["--set", "max_steps=1"]).succeeded();
}

#[test]
fn the_built_in_references_do_not_leak_into_runs_on_other_outcomes() {
    let dir = tempdir().unwrap();
    let row = |i: usize| format!("{{\"text\":\" The owl saw {i} bees.\",\"outcome\":{i}}}\n");
    let (_rows, rows) = file("rows.jsonl", &(0..9).map(row).collect::<String>());
    let run = dir.path().join("run");
    let outcomes = format!("outcomes={}", arg(&rows));
    let trained = train(&run, &["--set", &outcomes]);
    trained.succeeded();
    assert!(trained.stderr.contains("built-in references"), "{}", trained.stderr);
    assert!(!std::fs::read_to_string(run.join("recipe.toml")).unwrap().contains("references"));
    std::fs::write(&rows, row(1) + &row(2)).unwrap();
    std::fs::remove_file(run.join("finished.json")).unwrap();
    train(&run, &["--set", &outcomes]).refused(2, &["outcomes changed since this run was started"]);
}

/// The outcome model dies a few steps behind the predictions for all 800 texts: what these steps made is kept, whatever
/// `save_steps` says.
#[test]
fn steps_before_an_outcome_model_failed_are_kept() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: steps_before_an_outcome_model_failed_are_kept: no python3");
        return;
    }
    let dir = tempdir().unwrap();
    let code = "import json, os, sys\n\
                for n, line in enumerate(sys.stdin):\n    \
                    if n >= 816 and os.path.exists('mortal'):\n        sys.exit('out of budget')\n    \
                    row = json.loads(line)\n    \
                    print(json.dumps({'id': row['id'], 'score': len(row['response']) % 7 / 7}), flush=True)\n";
    std::fs::write(dir.path().join("judge.py"), code).unwrap();
    std::fs::write(dir.path().join("mortal"), "").unwrap();
    let judge = format!(
        "annotator={{ kind = \"command\", program = [\"python3\", \"judge.py\"], mode = \"score\", cwd = {:?} }}",
        arg(dir.path())
    );
    let run = dir.path().join("run");
    let sets = ["--set", "causal_estimator=dr", "--set", "save_steps=100", "--set", "max_steps=40", "--set", &judge];
    train(&run, &sets).refused(5, &["out of budget"]);
    let sets_kept = std::fs::read_dir(run.join("checkpoints")).unwrap().count();
    assert_eq!(sets_kept, 1, "a checkpoint of the steps before");
    std::fs::remove_file(dir.path().join("mortal")).unwrap();
    let went_on = train(&run, &sets);
    went_on.succeeded();
    assert!(went_on.stderr.contains("continuing after step"), "{}", went_on.stderr);
}
