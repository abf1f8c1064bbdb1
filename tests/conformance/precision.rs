//! Half precision: a policy that is its own reference, which is where every refresh of BPO begins.
use tempfile::tempdir;

use super::{conclude, device_name};
use crate::{
    cli::bpo::{arg, bpo},
    golden::Check,
};

#[test]
fn a_policy_equals_itself_as_reference_in_bf16() {
    let (dir, device) = (tempdir().unwrap(), device_name());
    let folder = dir.path().join("run");
    let run = bpo(&[
        "-q",
        "train",
        "--device",
        &device,
        "--dtype",
        "bfloat16",
        "--run-dir",
        arg(&folder),
        "--set",
        "pairs=embedded",
        "--set",
        "max_steps=1",
        "--set",
        "lora_dropout=0",
        "--set",
        "per_device_train_batch_size=8",
        "--set",
        "eval_size=0",
    ]);
    if run.code == 2 && run.stderr.contains("does not compute in it") {
        println!("skipped: {device} does not compute in bf16");
        return;
    }
    run.succeeded();
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let step: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let mut check = Check::default();
    check.case();
    for (metric, expected) in [("loss", std::f64::consts::LN_2), ("objective/kl", 0.0), ("rewards/margins", 0.0)] {
        check.close(metric, "step 1", &[step[metric].as_f64().unwrap()], &[expected], 1e-6);
    }
    conclude("itself as reference in bf16", &check);
}
