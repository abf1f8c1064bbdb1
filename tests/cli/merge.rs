use std::{
    fs,
    path::{Path, PathBuf},
};

use super::bpo::{arg, bpo, bpo_reading, bpo_with, fixture, json};

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
    let offline = [("HF_HUB_OFFLINE", "1"), ("HF_HUB_CACHE", arg(dir.path()))];
    let merged = bpo_with(&offline, &["merge", "--adapter", arg(dir.path()), "--out", arg(&out)]);
    merged.refused(3, &["org/model", "HF_HUB_OFFLINE"]);
}

/// The fixture's adapter with another `lora_alpha`.
fn with_alpha(adapter: &Path, alpha: i64, to: &Path) -> PathBuf {
    fs::create_dir_all(to).unwrap();
    let mut config = json(&adapter.join("adapter_config.json"));
    config["lora_alpha"] = alpha.into();
    fs::write(to.join("adapter_config.json"), config.to_string()).unwrap();
    fs::copy(adapter.join("adapter_model.safetensors"), to.join("adapter_model.safetensors")).unwrap();
    to.to_path_buf()
}

#[test]
fn several_adapters_become_one_or_one_model_that_score_as_their_mean() {
    for name in ["llama-tied", "qwen3"] {
        let adapter = fixture(&format!("peft/{name}-lora"));
        let (Some(model), Some(adapter)) = (fixture(&format!("arch/{name}")), adapter) else { continue };
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let [a, b] = [(12, "a"), (24, "b")].map(|(alpha, name)| with_alpha(&adapter, alpha, &path(name)));
        let model = ["--model", arg(&model)];
        let expected = |alpha| {
            let adapter = with_alpha(&adapter, alpha, &path("expected"));
            logps(&[&model[..], &["--adapter", arg(&adapter)]].concat())
        };
        let merge = |options: &[&str], expected: &[f64]| {
            let out = path("out");
            let adapters = ["--adapter", arg(&a), "--adapter", arg(&b), "--out", arg(&out), "--force"];
            let run = bpo(&[&["merge"], &model[..], &adapters, options].concat());
            run.succeeded();
            assert_eq!(run.stdout.trim(), arg(&out));
            assert!(run.stderr.contains("spread of the adapters 3.333e-1"), "{}", run.stderr);
            let scored = if options.contains(&"--adapter-only") {
                logps(&[&model[..], &["--adapter", arg(&out)]].concat())
            } else {
                logps(&["--model", arg(&out)])
            };
            for (found, expected) in scored.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-4, "{name} {options:?}: {found} {expected}");
            }
            fs::remove_dir_all(out).unwrap();
            run.stderr
        };
        let mean = expected(18);
        merge(&["--dtype", "float32"], &mean);
        for method in ["mean", "concat", "svd:4"] {
            merge(&["--method", method, "--adapter-only"], &mean);
        }
        merge(&["--weights", "0.75,0.25", "--adapter-only"], &expected(15));
        let told = merge(&["--method", "peft_linear", "--weights", "0,1", "--adapter-only"], &expected(24));
        assert!(told.contains("peft_linear of 2: relative error 0.000e0"), "{told}");
    }
}

#[test]
fn an_ensemble_that_makes_no_sense_is_refused() {
    let out = ["merge", "--out", "x"];
    let refused = |args: &[&str], code, words: &[&str]| bpo(&[&out[..], args].concat()).refused(code, words);
    refused(&["--adapter", "a", "--method", "median"], 2, &["median", "peft_linear"]);
    refused(&["--adapter", "a", "--method", "svd:0"], 2, &["svd:0", "from 1"]);
    refused(&["--adapter", "a", "--adapter-only", "--dtype", "float16"], 2, &["--dtype"]);
    refused(&["--model", "m", "--adapter-only"], 2, &["--adapter"]);
    refused(&["--adapter", "a", "--adapter-only", "--model", "m", "--weights", "0.5,0.5"], 2, &["2 for 1"]);
    let (Some(a), Some(b)) = (fixture("peft/llama-tied-lora"), fixture("peft/qwen3-lora")) else { return };
    let both = ["--adapter", arg(&a), "--adapter", arg(&b), "--adapter-only"];
    refused(&both, 2, &["llama-tied", "qwen3", "--model"]);
    refused(&[&both[..], &["--model", "m", "--method", "svd:2"]].concat(), 3, &["first has"]);
}
