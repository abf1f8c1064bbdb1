//! Twenty steps of BPO on the story model, sampled, judged and trained on the device, against flex's curve.
//!
//! The curve is stored, so that flex itself is held to something: `curve.jsonl` is `metrics.jsonl` of
//! `bpo train --device flex` with [`SETTINGS`], cut to what is compared.
use serde_json::Value;
use tempfile::tempdir;

use super::{conclude, device_name};
use crate::{
    cli::bpo::{arg, bpo},
    golden::Check,
};

const SETTINGS: [&str; 6] = [
    "max_steps=20",
    "collection_phases=4",
    "learning_rate=1e-3",
    "per_device_train_batch_size=4",
    "max_new_tokens=24",
    "eval_size=0",
];

/// What the samples decide. Where rounding gives one completion another turn, which over 4,000 tokens may happen, it is
/// another run from there on.
const SAMPLES: [&str; 2] = ["objective/scores", "collect/length"];

/// What is compared: the largest error, relative to max(1, |value|), while the samples are flex's, and after that.
const METRICS: [(&str, f64, f64); 6] = [
    ("loss", 1e-4, 0.03),
    ("grad_norm", 1e-3, 1.0),
    ("rewards/margins", 1e-4, 0.06),
    ("logps/chosen", 1e-4, 0.5),
    ("logps/rejected", 1e-4, 0.5),
    ("objective/kl", 1e-3, 0.3),
];

/// Steps that must have flex's samples.
const SAME: usize = 2;

#[test]
fn twenty_steps_of_bpo_take_the_course_they_take_on_flex() {
    let (ours, expected) = (train(), rows(include_str!("curve.jsonl")));
    let mut check = Check::default();
    check.same("steps", "the run", &ours.len(), &expected.len());
    let same = ours.iter().zip(&expected).take_while(|(ours, expected)| has_the_same_samples(ours, expected)).count();
    println!("     {}, twenty steps of BPO: the first {same} have flex's samples", device_name());
    if same < SAME {
        check.fail(format!("only {same} steps have flex's samples"));
    }
    for (index, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
        check.case();
        for (metric, close, near) in METRICS {
            let [ours, expected] = [ours, expected].map(|row| row[metric].as_f64().into_iter().collect::<Vec<_>>());
            let (when, tolerance) = if index < same { ("", close) } else { (" of other samples", near) };
            check.close(&format!("{metric}{when}"), &format!("step {}", index + 1), &ours, &expected, tolerance);
        }
    }
    conclude("twenty steps of BPO", &check);
}

/// The metrics of a run.
fn train() -> Vec<Value> {
    let dir = tempdir().unwrap();
    let run = dir.path().join("run");
    let device = device_name();
    let sets = SETTINGS.into_iter().flat_map(|set| ["--set", set]);
    let args = ["-q", "train", "--device", &device, "--run-dir", arg(&run)].into_iter().chain(sets);
    bpo(&args.collect::<Vec<_>>()).succeeded();
    rows(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap())
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn has_the_same_samples(ours: &Value, expected: &Value) -> bool {
    SAMPLES.iter().all(|metric| (ours[*metric].as_f64().unwrap() - expected[*metric].as_f64().unwrap()).abs() < 1e-6)
}
