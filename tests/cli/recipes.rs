//! The recipes that come with the program, every one, and the keys that name what it reads.
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    thread,
};

use serde_json::Value;
use tempfile::tempdir;

use super::bpo::{arg, bpo, json};

/// Two steps of four prompts.
const SHORT: [&str; 5] =
    ["max_steps=2", "per_device_train_batch_size=4", "max_new_tokens=8", "eval_size=4", "save_steps=1"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs `bpo train` with `sets`.
fn train(recipe: Option<&Path>, dir: &Path, sets: &[&str]) {
    let mut args = vec!["train", "--run-dir", arg(dir)];
    args.extend(recipe.iter().flat_map(|recipe| ["--recipe", arg(recipe)]));
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    let run = bpo(&args);
    assert_eq!(run.code, 0, "{recipe:?} {sets:?}: {}", run.stderr);
}

fn metrics(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Openings of stories, as a prompts file.
fn prompts(dir: &Path, count: usize) -> PathBuf {
    let path = dir.join("prompts.jsonl");
    let row = |i| format!("{{\"prompt\":\"A small owl named Otto saw {i} bees.\"}}\n");
    std::fs::write(&path, (0..count).map(row).collect::<String>()).unwrap();
    path
}

/// What a recipe needs in place of files that are not here, or of steps that a test has no time for.
fn sets_of(name: &str, dir: &Path) -> Vec<String> {
    let sets: Vec<String> = SHORT.map(str::to_string).into();
    let of = |more: &[&str]| sets.iter().cloned().chain(more.iter().map(ToString::to_string)).collect();
    match name {
        "smollm2-helpful" => of(&[
            "model=embedded",
            "prompts=embedded",
            "references=embedded",
            "annotator=lexicon",
            "apply_chat_template=false",
        ]),
        // Four passes over eight prompts: pairs are used again from the second on.
        "optune" => {
            let prompts = format!("prompts={}", arg(&prompts(dir, 8)));
            of(&["max_steps=0", "per_device_train_batch_size=8", &prompts])
        }
        _ => sets,
    }
}

/// A metric or a file by which a procedure shows in its run.
fn sign_of(name: &str) -> Option<&'static str> {
    match name {
        "optune" => Some("collect/reused"),
        "ema-reference" | "tr-dpo" => Some("reference/taken_at"),
        "bpo-on-policy" | "ucb" => Some("ensemble/spread"),
        _ => None,
    }
}

fn runs_to_its_end(recipe: &Path, dir: &Path) {
    let name = recipe.file_stem().unwrap().to_str().unwrap();
    let run = dir.join(name);
    std::fs::create_dir(&run).unwrap();
    let sets = sets_of(name, dir);
    train(Some(recipe), &run, &sets.iter().map(String::as_str).collect::<Vec<_>>());
    let finished = json(&run.join("finished.json"));
    let steps = if name == "optune" { 4 } else { 2 };
    assert_eq!((finished["steps"].as_u64(), metrics(&run).len()), (Some(steps), steps as usize), "{name}");
    assert!(run.join("adapter/adapter_model.safetensors").is_file(), "{name}");
    if let Some(sign) = sign_of(name) {
        assert!(metrics(&run).iter().any(|metrics| metrics.get(sign).is_some()), "{name}: no {sign}");
    }
}

/// The recipe of a reward model, on the story model and its pairs.
fn rewards_to_its_end(recipe: &Path, dir: &Path) {
    let run = dir.join(recipe.file_stem().unwrap());
    let story = root().join("assets/story");
    let (model, tokenizer) = (format!("model={}", arg(&story.join("model"))), format!("tokenizer={}", arg(&story)));
    let mut args = vec!["reward", "train", arg(recipe), "--run-dir", arg(&run)];
    args.extend(["--set", &model, "--set", &tokenizer, "--set", "pairs=embedded", "--set", "max_steps=2"]);
    bpo(&args).succeeded();
    assert!(run.join("model/model.safetensors").is_file() && metrics(&run).len() == 2, "{}", recipe.display());
}

#[test]
fn every_recipe_runs_to_its_end() {
    let dir = tempdir().unwrap();
    let files = std::fs::read_dir(root().join("recipes")).unwrap();
    let recipes: BTreeSet<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    assert!(recipes.iter().all(|path| path.extension().is_some_and(|extension| extension == "toml")), "{recipes:?}");
    let begins = |path: &&PathBuf, with: &str| path.file_name().unwrap().to_str().unwrap().starts_with(with);
    let (grids, recipes): (Vec<&PathBuf>, Vec<&PathBuf>) = recipes.iter().partition(|path| begins(path, "compare-"));
    let (rewards, recipes): (Vec<&PathBuf>, Vec<&PathBuf>) =
        recipes.into_iter().partition(|path| begins(path, "reward-"));
    for recipe in rewards {
        rewards_to_its_end(recipe, dir.path());
    }
    assert!(recipes.len() >= 15 && !grids.is_empty());
    for grid in grids {
        bpo(&["compare", arg(grid), "--plan", "--run-dir", arg(dir.path())]).succeeded();
    }
    thread::scope(|scope| {
        for recipe in recipes {
            scope.spawn(|| runs_to_its_end(recipe, dir.path()));
        }
    });
}

/// The story tokenizer with two words in each other's place.
fn another_tokenizer(dir: &Path) -> PathBuf {
    let (story, folder) = (root().join("assets/story"), dir.join("tokenizer"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(story.join("tokenizer_config.json"), folder.join("tokenizer_config.json")).unwrap();
    let mut tokenizer = json(&story.join("tokenizer.json"));
    let vocabulary = &mut tokenizer["model"]["vocab"];
    let [the, was] = ["Ġthe", "Ġwas"].map(|word| vocabulary[word].clone());
    assert!(the.is_u64() && was.is_u64());
    (vocabulary["Ġthe"], vocabulary["Ġwas"]) = (was, the);
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder
}

/// Weights and report of a run of [`SHORT`] with `sets`.
fn outcome(dir: &Path, sets: &[&str]) -> (Vec<u8>, Value) {
    train(None, dir, &[&SHORT[..], sets].concat());
    let weights = std::fs::read(dir.join("adapter/adapter_model.safetensors")).unwrap();
    (weights, json(&dir.join("finished.json")))
}

/// The other keys are tried in `crates/bpo-train/tests/suite/keys.rs`, which counts on these.
#[test]
fn every_key_that_names_an_input_changes_the_outcome() {
    let dir = tempdir().unwrap();
    let trained = ["use_peft=false", "learning_rate=1e-3", "max_steps=1"];
    train(None, &dir.path().join("full"), &[&SHORT[..], &trained].concat());
    outcome(&dir.path().join("lora"), &["learning_rate=1e-2"]);
    let path = |name: &str| arg(&dir.path().join(name)).to_string();
    let (prompts, tokenizer) = (prompts(dir.path(), 20), another_tokenizer(dir.path()));
    let pairs = dir.path().join("pairs.jsonl");
    let row = "{\"prompt\":\"A small owl\",\"chosen\":\" was glad.\",\"rejected\":\" was sad.\"}\n";
    std::fs::write(&pairs, row.repeat(8)).unwrap();
    let keys: [(&str, &[&str], String); 8] = [
        ("model", &["references=embedded"], path("full/model")),
        ("tokenizer", &["references=embedded"], arg(&tokenizer).into()),
        ("adapter", &[], path("lora/adapter")),
        ("prompts", &["references=embedded"], arg(&prompts).into()),
        ("pairs", &["references=embedded"], "embedded".into()),
        ("pairs", &["references=embedded", "pairs=embedded"], arg(&pairs).into()),
        ("references", &["references=embedded"], String::new()),
        ("annotator", &[], "{ kind = \"length\" }".into()),
    ];
    thread::scope(|scope| {
        for (index, (key, companions, value)) in keys.iter().enumerate() {
            let dir = dir.path();
            scope.spawn(move || {
                let set = format!("{key}={value}");
                let without = outcome(&dir.join(format!("{index}-without")), companions);
                let with = outcome(&dir.join(format!("{index}-with")), &[companions, &[set.as_str()][..]].concat());
                assert!(without != with, "{set} changes nothing");
            });
        }
    });
}

/// A run's standard error.
fn told(file: &Path, more: &[&str]) -> super::bpo::Run {
    let dir = tempdir().unwrap();
    let prompts = format!("prompts={}", arg(file));
    let mut args = vec!["train", "--run-dir", arg(dir.path())];
    args.extend(SHORT.iter().copied().chain(["eval_size=0", &prompts]).flat_map(|set| ["--set", set]));
    bpo(&[&args, more].concat())
}

#[test]
fn bad_lines_stop_a_run_unless_they_may_be_skipped_and_are_few() {
    let dir = tempdir().unwrap();
    let file = prompts(dir.path(), 199);
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}{{\"prompt\": 7}}\n")).unwrap();
    told(&file, &[]).refused(3, &["prompts.jsonl:200", "prompt"]);
    let run = told(&file, &["--bad-lines", "skip"]);
    run.succeeded();
    assert!(
        run.stderr.contains("1 row left out that cannot be read") && run.stderr.contains(":200: "),
        "{}",
        run.stderr
    );
    told(&file, &["--bad-lines", "ignore"]).refused(2, &["bad_lines", "ignore", "skip"]);
    std::fs::write(&file, format!("{good}{}", "nonsense\n".repeat(5))).unwrap();
    told(&file, &["--bad-lines", "skip"]).refused(3, &["5 of 204 rows", "prompts.jsonl:200"]);
}

#[test]
fn prompts_that_leave_no_room_are_dropped_and_counted() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("prompts.jsonl");
    // The story model reads 256 tokens, BOS among them, and is asked for 8: 248 are left.
    let row = |tokens: usize| format!("{{\"prompt\": \"A{}\"}}\n", " a".repeat(tokens - 2));
    let lengths: Vec<usize> = (246..=250).collect();
    std::fs::write(&file, lengths.iter().map(|&tokens| row(tokens)).collect::<String>()).unwrap();
    let rows =
        bpo(&["generate", "--model", "embedded", "--prompts", arg(&file), "--max-new-tokens", "1", "--json"]).rows();
    let told_lengths: Vec<usize> = rows.iter().map(|row| row["prompt_ids"].as_array().unwrap().len()).collect();
    assert_eq!(told_lengths, lengths, "the test's own prompts");
    let run = told(&file, &["--set", "max_prompt_length=1000", "--set", "per_device_train_batch_size=3"]);
    run.succeeded();
    assert!(run.stderr.contains("2 dropped (prompt too long: 2)"), "{}", run.stderr);
}
