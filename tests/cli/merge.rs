use std::fs;

use super::bpo::{arg, bpo, bpo_reading, fixture, json};

const ROWS: &str = "{\"prompt_ids\":[1,5],\"response_ids\":[3,4,5,9]}\n{\"prompt_ids\":[7],\"response_ids\":[8,2]}\n";

fn logps(args: &[&str]) -> Vec<f64> {
    let rows = bpo_reading(ROWS, &[&["score", "--input", "-"], args].concat()).rows();
    rows.iter().map(|row| row["logp"].as_f64().unwrap()).collect()
}

#[test]
fn a_merged_model_scores_as_its_adapter_does() {
    for name in ["llama-tied", "qwen3", "gemma"] {
        let adapter = fixture(&format!("peft/{name}-lora"));
        let (Some(model), Some(adapter)) = (fixture(&format!("arch/{name}")), adapter) else { continue };
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("merged");
        let both = ["--model", arg(&model), "--adapter", arg(&adapter)];
        let run = bpo(&[&["merge", "--out", arg(&out), "--dtype", "float32"], both.as_slice()].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(run.stdout.trim(), arg(&out));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        let (merged, adapted, base) = (logps(&["--model", arg(&out)]), logps(&both), logps(&["--model", arg(&model)]));
        for ((merged, adapted), base) in merged.iter().zip(adapted).zip(base) {
            assert!((merged - adapted).abs() < 1e-4, "{name}: {merged} {adapted}");
            assert!((merged - base).abs() > 1e-4, "{name}: the adapter does nothing");
        }
    }
}

#[test]
fn a_folder_that_is_not_empty_needs_force_and_keeps_its_other_files() {
    let Some(model) = fixture("stories260K") else { return };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let args = ["merge", "--model", arg(&model), "--out", arg(dir.path()), "--dtype", "bfloat16"];
    bpo(&args).refused(2, &["--force"]);
    let run = bpo(&[&args[..], &["--force"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(fs::read_to_string(dir.path().join("notes.txt")).unwrap(), "mine");
    let config = json(&dir.path().join("config.json"));
    assert!(config.get("dtype").or(config.get("torch_dtype")).unwrap() == "bfloat16");
    assert!(dir.path().join("tokenizer.json").is_file());
}

#[test]
fn the_inputs_are_never_overwritten() {
    let Some(source) = fixture("stories260K") else { return };
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(source).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let model = arg(dir.path());
    bpo(&["merge", "--model", model, "--out", model, "--force"]).refused(2, &["also read from"]);
}

#[test]
fn an_adapter_whose_base_is_elsewhere_asks_for_the_model() {
    let Some(adapter) = fixture("peft/llama-tied-lora") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut config = json(&adapter.join("adapter_config.json"));
    config["base_model_name_or_path"] = "org/model".into();
    fs::write(dir.path().join("adapter_config.json"), config.to_string()).unwrap();
    let out = dir.path().join("out");
    bpo(&["merge", "--adapter", arg(dir.path()), "--out", arg(&out)]).refused(2, &["org/model", "--model"]);
}
