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
