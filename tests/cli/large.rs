//! Files that are larger than what may be held of them.
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use serde_json::{Value, json};
use tempfile::tempdir;

use super::bpo::{arg, bpo};

/// Bytes of the large file.
const LARGE: usize = 64 << 20;
/// MiB that a run may take more on it than on a small one: 8 of rows in memory, 8 bytes a row, a batch being tokenised,
/// and what the allocator keeps. Measured: 10 to 20; with all rows held 90 and more.
const MORE: f64 = 45.0;

/// Rows of a short prompt and a long text, up to a size.
fn written(path: &Path, bytes: usize, row: impl Fn(usize) -> Value) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut size = 0;
    for index in 0.. {
        let line = format!("{}\n", row(index));
        file.write_all(line.as_bytes()).unwrap();
        size += line.len();
        if size >= bytes {
            break;
        }
    }
    file.flush().unwrap();
}

/// Peak resident memory of a run of one step, in MiB, where the system tells.
fn peak(verb: &[&str], dir: &Path, sets: &[&str]) -> Option<f64> {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let args: Vec<&str> =
        verb.iter().copied().chain(["--run-dir", arg(dir), "--set", "max_steps=1"]).chain(sets).collect();
    bpo(&args).succeeded();
    let metrics = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let step: Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
    step["memory/peak_rss_mib"].as_f64()
}

fn compare(test: &str, verb: &[&str], key: &str, sets: &[&str], row: impl Fn(usize) -> Value) {
    let dir = tempdir().unwrap();
    let peaks = [4 << 10, LARGE].map(|bytes| {
        let file = dir.path().join(format!("{bytes}.jsonl"));
        written(&file, bytes, &row);
        let data = format!("{key}={}", arg(&file));
        peak(verb, &dir.path().join(format!("run-{bytes}")), &[&[data.as_str()], sets].concat())
    });
    let [Some(small), Some(large)] = peaks else {
        println!("skipped: {test}: the system does not tell peak memory");
        return;
    };
    assert!(large < small + MORE, "{large} MiB for {} MiB of rows, {small} MiB for a few", LARGE >> 20);
}

#[test]
fn training_on_a_large_file_of_prompts_takes_little_more_memory_than_on_a_small_one() {
    let text = "and what is never read of a prompt that nothing is compared with. ".repeat(4);
    let row = |index| json!({"prompt": format!("Tom has {index} cats."), "reference": text});
    let sets = ["eval_size=0", "max_new_tokens=4", "per_device_train_batch_size=2", "collection_phases=1"];
    compare("training_on_a_large_file", &["train"], "prompts", &sets, row);
}

#[test]
fn fine_tuning_on_a_large_file_takes_little_more_memory_than_on_a_small_one() {
    let row =
        |index| json!({"prompt": format!("Tom has {index} cats."), "completion": " They sleep all day.".repeat(9)});
    let sets = ["model=embedded", "per_device_train_batch_size=2"];
    compare("fine_tuning_on_a_large_file", &["sft"], "data", &sets, row);
}
