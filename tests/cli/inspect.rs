use std::fs;

use serde_json::Value;

use super::bpo::{arg, bpo, file, fixture};

fn facts(args: &[&str]) -> Value {
    bpo(&[&["inspect", "--json"], args].concat()).rows().remove(0)
}

#[test]
fn a_model_is_told_from_an_adapter_and_a_reward_model() {
    for (path, kind) in [
        ("stories260K", "language model"),
        ("arch/gpt2", "language model"),
        ("arch/gemma-reward", "reward model"),
        ("arch/deberta-v3-reward", "reward model"),
        ("peft/qwen3-lora", "adapter"),
    ] {
        let Some(path) = fixture(path) else { continue };
        let facts = facts(&[arg(&path)]);
        assert_eq!(facts["kind"], kind);
        assert!(facts["parameters"].as_u64().unwrap() > 0);
    }
}

#[test]
fn a_data_file_says_what_it_reads_as() {
    let (_dir, path) = file("d.jsonl", "{\"prompt\":\"a\",\"chosen\":\"b c\",\"rejected\":\"d\"}\n");
    let told = facts(&[arg(&path)]);
    assert_eq!((&told["kind"], &told["rows"]), (&"data".into(), &1.into()));
    assert!(told["reads_as"]["pairs"].as_str().unwrap().starts_with("1 pairs"), "{told}");
    let Some(model) = fixture("stories260K") else { return };
    let told = facts(&[arg(&path), "--model", arg(&model)]);
    assert!(told["tokens"]["chosen"]["max"].as_u64().unwrap() >= 2, "{told}");
}

const PAIRS: &str = "{\"prompt\":\"Once upon a time\",\"chosen\":\" there was a cat.\",\"rejected\":\" no.\"}\n\
    {\"prompt\":\"The dog\",\"chosen\":\" ran.\",\"rejected\":\" sat and sat and sat and sat.\"}\n";

#[test]
fn a_row_is_shown_in_ids_with_its_boundary_and_the_mask_of_the_loss() {
    let Some(model) = fixture("stories260K") else { return };
    let (_dir, path) = file("d.jsonl", PAIRS);
    let told = facts(&[arg(&path), "--model", arg(&model), "--row", "2"]);
    let (sample, chosen) = (&told["sample"], &told["sample"]["chosen"]);
    let length = |ids: &Value| ids.as_array().unwrap().len();
    let (prompt, completion) = (length(&sample["prompt_ids"]), length(&chosen["ids"]));
    assert_eq!((&sample["line"], chosen["boundary"].as_u64()), (&2.into(), Some(prompt as u64)));
    assert_eq!(chosen["mask"], "0".repeat(prompt) + &"1".repeat(completion));
    assert!(length(&sample["rejected"]["ids"]) > completion);
    bpo(&["inspect", arg(&path), "--model", arg(&model), "--row", "3"]).refused(2, &["--row 3", "rows 1 to 2"]);
}

#[test]
fn rows_over_the_limits_are_counted_by_reason() {
    let Some(model) = fixture("stories260K") else { return };
    let (_dir, path) = file("d.jsonl", PAIRS);
    let fitting = |flags: &[&str]| facts(&[&[arg(&path), "--model", arg(&model)], flags].concat())["fitting"].clone();
    assert_eq!(fitting(&[])["kept"], 2);
    let cut = fitting(&["--max-length", "12"]);
    assert_eq!((&cut["kept"], &cut["dropped"]["prompt and completion too long"]), (&0.into(), &2.into()), "{cut}");
    assert_eq!(fitting(&["--max-prompt-length", "3"])["dropped"]["prompt too long"], 2);
}

#[test]
fn the_rows_that_are_held_out_are_those_of_a_run() {
    let rows: String = (0..64).map(|i| format!("{{\"prompt\":\"A small owl saw {i} bees.\"}}\n")).collect();
    let (dir, path) = file("p.jsonl", &rows);
    let split = |seed: &str| facts(&[arg(&path), "--model", "embedded", "--seed", seed])["split"].clone();
    let of_42 = split("42");
    assert_ne!(of_42["held_out"], 0);
    assert_eq!(of_42["training"].as_u64().unwrap() + of_42["held_out"].as_u64().unwrap(), 64);
    assert!(["training", "held out"].contains(&of_42["shown_row"].as_str().unwrap()), "{of_42}");
    let check = |seed: &str| {
        let prompts = format!("prompts={}", arg(&path));
        let folder = dir.path().join("run");
        let sets = ["--set", "references=", "--set", &prompts, "--set", seed];
        bpo(&[&["check", "--quick", "--json", "--run-dir", arg(&folder)], &sets[..]].concat()).rows().remove(0)
    };
    for seed in [42, 7] {
        let (told, split) = (check(&format!("seed={seed}")), split(&seed.to_string()));
        assert_eq!((&told["data"]["training"], &told["data"]["held_out"]), (&split["training"], &split["held_out"]));
    }
}

#[test]
fn tokens_are_told_apart_without_colour_where_nobody_looks() {
    let Some(model) = fixture("stories260K") else { return };
    let (_dir, path) = file("d.jsonl", PAIRS);
    let run = bpo(&["inspect", arg(&path), "--model", arg(&model)]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("line 1, token by token:") && run.stdout.contains("‖"), "{}", run.stdout);
    assert!(!run.stdout.contains('\x1b'), "no colours in a file");
}

#[test]
fn ranked_completions_read_as_pairs() {
    let rank = |rank: u8, text: &str| {
        format!("{{\"rank\":{rank},\"completion\":[{{\"role\":\"assistant\",\"content\":\"{text}\"}}]}}")
    };
    let row = format!(
        "{{\"context\":[{{\"role\":\"user\",\"content\":\"q\"}}],\"completions\":[{},{}]}}\n",
        rank(1, "b"),
        rank(0, "a")
    );
    let (_dir, path) = file("d.jsonl", &row);
    assert_eq!(facts(&[arg(&path)])["reads_as"]["pairs"], "1 pairs");
}

#[test]
fn a_run_is_looked_at_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("recipe.toml"), "beta = 0.1\n").unwrap();
    fs::write(dir.path().join("metrics.jsonl"), "{\"step\":1}\n{\"step\":2}\n{\"st").unwrap();
    fs::create_dir_all(dir.path().join("checkpoints/step-00000002")).unwrap();
    let told = facts(&[arg(dir.path())]);
    assert_eq!((&told["kind"], &told["finished"]), (&"run".into(), &false.into()));
    assert_eq!((&told["metrics_lines"], &told["recipe"]["beta"]), (&2.into(), &0.1.into()));
    assert_eq!(told["checkpoints"][0], "step-00000002");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "no lock was taken");
}

#[test]
fn a_folder_of_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    bpo(&["inspect", arg(dir.path())]).refused(3, &["config.json", "recipe.toml"]);
}

#[test]
fn pairs_that_are_left_out_are_counted_by_their_reason() {
    let same = "{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"a\"}\n";
    let (_dir, rows) =
        file("pairs.jsonl", &format!("{{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"b\"}}\n{same}{same}"));
    let pairs = facts(&[arg(&rows)])["reads_as"]["pairs"].clone();
    assert_eq!(pairs, "1 pairs; 2 skipped: chosen and rejected are identical");
}

#[test]
fn what_a_model_says_of_itself_cannot_steer_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), r#"{"model_type":"\u001b[31mred\u0007"}"#).unwrap();
    let run = bpo(&["inspect", arg(dir.path())]);
    run.refused(3, &["red"]);
    assert!(!run.stderr.chars().any(|c| c.is_control() && c != '\n'), "{:?}", run.stderr);
}
