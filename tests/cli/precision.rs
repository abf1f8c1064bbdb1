//! `--dtype` and gradient checkpointing: what they may change, and what not.
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::bpo::{arg, bpo, bpo_reading};

/// The built-in model as a folder of bf16 weights.
fn bf16_model() -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let model = dir.path().join("model");
    bpo(&["merge", "--model", "embedded", "--dtype", "bfloat16", "--out", arg(&model)]).succeeded();
    (dir, model)
}

fn train(dir: &Path, sets: &[&str], more: &[&str]) -> super::bpo::Run {
    let mut args = vec!["train", "--run-dir", arg(dir), "--set", "eval_size=0"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    bpo(&[&args[..], more].concat())
}

/// A column of a run's metrics.
fn column(dir: &Path, name: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| row[name].as_f64().unwrap()).collect()
}

fn adapter(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("adapter/adapter_model.safetensors")).unwrap()
}

#[test]
fn bf16_weights_of_a_bf16_file_are_kept_and_change_only_the_rounding() {
    let (dir, model) = bf16_model();
    let model = format!("model={}", arg(&model));
    let sets = ["max_steps=3", "per_device_train_batch_size=4", "max_new_tokens=12", "prompts=embedded", &model];
    let run = |dtype: &str| {
        let folder = dir.path().join(dtype);
        train(&folder, &sets, &["--dtype", dtype]).succeeded();
        (column(&folder, "loss"), column(&folder, "objective/scores"), adapter(&folder))
    };
    let [auto, kept, single] = ["auto", "bfloat16", "float32"].map(run);
    assert!(auto == kept, "a bf16 file is what `auto` keeps");
    assert!(kept.2 != single.2, "sums of another order would give the same bytes");
    assert_eq!(kept.1, single.1, "the same completions are sampled");
    for (kept, single) in kept.0.iter().zip(&single.0) {
        assert!((kept - single).abs() < 1e-4, "losses {kept} and {single}");
    }
    let other = train(&dir.path().join("auto"), &[&sets[1..], &["max_steps=4"]].concat(), &["--dtype", "float32"]);
    other.refused(2, &["dtype"]);
}

#[test]
fn a_model_of_f32_is_rounded_only_on_request() {
    let [auto, single, half] = ["auto", "float32", "bfloat16"].map(|dtype| {
        let row = r#"{"prompt": "A small owl named Otto", "response": " was at the beach."}"#;
        bpo_reading(row, &["score", "--model", "embedded", "--input", "-", "--dtype", dtype]).rows()[0]["logp"].clone()
    });
    assert_eq!(auto, single);
    assert_ne!(single, half, "8 bits of a weight were all that it had");
    let run = bpo(&["generate", "--model", "embedded", "--prompt", "x", "--dtype", "int3"]);
    run.refused(2, &["--dtype", "auto, float32, bfloat16"]);
    let run = train(tempdir().unwrap().path(), &["dtype=int3"], &[]);
    run.refused(2, &["dtype", "int3", "bfloat16"]);
}

#[test]
fn layers_computed_twice_need_less_memory_and_end_in_the_same_bytes() {
    let dir = tempdir().unwrap();
    let [kept, computed] = ["false", "true"].map(|checkpointing| {
        let (folder, key) = (dir.path().join(checkpointing), format!("gradient_checkpointing={checkpointing}"));
        let lengths = ["max_new_tokens=64", "min_new_tokens=64"];
        let sets = [&lengths[..], &["max_steps=1", "per_device_train_batch_size=96", &key]].concat();
        train(&folder, &sets, &[]).succeeded();
        (column(&folder, "memory/peak_rss_mib")[0], adapter(&folder))
    });
    assert!(kept.1 == computed.1, "the adapters differ");
    // Measured: 563 and 270 MiB.
    assert!(computed.0 < 0.7 * kept.0, "{} MiB, computed twice {} MiB", kept.0, computed.0);
}
