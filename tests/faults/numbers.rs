//! Numbers that are not finite, from every place they can come from.
use std::{collections::BTreeMap, fs, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use tempfile::tempdir;

use super::{
    inputs::story,
    run::{Procedure, plain},
};
use crate::cli::bpo::{arg, json};

/// The story model in a folder, with some weights replaced.
fn model(dir: &Path, tensor: &str, change: impl Fn(usize) -> f32) -> String {
    story(dir);
    let bytes = fs::read(dir.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, view) in file.iter() {
        // In full precision: what is not changed may be any number.
        let changed = || (0..view.shape().iter().product()).flat_map(|at| change(at).to_le_bytes()).collect();
        let (dtype, data) = match name == tensor {
            true => (Dtype::F32, changed()),
            false => (view.dtype(), view.data().to_vec()),
        };
        tensors.insert(name.into(), (dtype, view.shape().to_vec(), data));
    }
    assert!(tensors.contains_key(tensor), "{:?}", tensors.keys());
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(dir.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    format!("model={}", arg(dir))
}

/// Row 10, by the whole binary: found when the model is read.
#[test]
fn weights_that_are_not_finite_are_refused_by_name_before_step_0() {
    for (number, tensor) in [
        (f32::NAN, "model.norm.weight"),
        (f32::INFINITY, "model.embed_tokens.weight"),
        (f32::NEG_INFINITY, "model.layers.0.mlp.down_proj.weight"),
    ] {
        let dir = tempdir().unwrap();
        let folder = dir.path().join("model");
        let set = model(&folder, tensor, |at| if at == 7 { number } else { 0.5 });
        let run = dir.path().join("run");
        plain().with(&[&set, "references="]).run(&run).refused(3, &[tensor, "7"]);
        assert!(!run.join("checkpoints").exists());
    }
}

/// What a run leaves that ended with 6: the dump of the batch, and nothing that was trained.
fn ends_with_6(run: &Procedure, dir: &Path, words: &[&str]) -> Value {
    run.run(dir).refused(6, words);
    let sets = || {
        let folders = fs::read_dir(dir.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
        let manifests = folders.map(|folder| (folder.clone(), fs::read(folder.join("manifest.json")).unwrap()));
        manifests.collect::<BTreeMap<_, _>>()
    };
    let before = sets();
    // The same again: nothing has changed.
    run.run(dir).refused(6, words);
    assert_eq!(sets(), before);
    assert!(!dir.join("adapter").exists() && !dir.join("finished.json").exists());
    let dump = fs::read_dir(dir.join("non-finite")).unwrap().next().unwrap().unwrap().path();
    let dump = json(&dump);
    assert!(!dump["prompts"].as_array().unwrap().is_empty() && dump["rows"][0]["text"].is_string(), "{dump}");
    assert_eq!(dump["rows"][0]["prompt"], dump["prompts"][0]);
    dump
}

/// Row 19, by stage.
#[test]
fn logits_that_are_not_finite_end_a_run_with_6() {
    let dir = tempdir().unwrap();
    let folder = dir.path().join("model");
    // Each finite, their products not.
    let set = model(&folder, "model.norm.weight", |_| 3e38);
    let run = plain().with(&[&set, "references=", "eval_size=0", "eval_steps="]);
    let dump = ends_with_6(&run, &dir.path().join("run"), &["step 0", "a logit", "non-finite/step-00000000.json"]);
    assert_eq!(dump["prompts"].as_array().unwrap().len(), 1, "the prompt it followed");
    let run = plain().with(&[&set, "references="]);
    ends_with_6(&run, &dir.path().join("evaluated"), &["step 0", "a logit", "not finite"]);
}

#[test]
fn a_loss_that_is_not_finite_ends_a_run_with_6_in_its_first_step_and_in_a_later_one() {
    let dir = tempdir().unwrap();
    let first = plain().with(&["loss_type='expr: log(rho)'"]);
    let dump = ends_with_6(&first, &dir.path().join("first"), &["step 0", "the loss"]);
    assert!(dump["rows"][0]["policy_logps"][0].is_f64() && dump["rows"][0]["chosen"]["tokens"].is_array(), "{dump}");
    // Finite while the policy is near its reference.
    let sets = ["loss_type='expr: log(1e-4 - rho * rho)'", "learning_rate=1e-2", "save_steps=1", "collection_phases=1"];
    let later = plain().with(&sets);
    let run = dir.path().join("later");
    let dump = ends_with_6(&later, &run, &["the loss"]);
    assert!(dump["step"].as_u64().unwrap() > 0 && run.join("checkpoints/step-00000001").exists(), "{dump}");
}

#[test]
fn a_gradient_that_is_not_finite_ends_a_run_with_6_and_names_its_tensor() {
    let dir = tempdir().unwrap();
    let steep = plain().with(&["loss_type='expr: 1e30 * rho'"]);
    let dump = ends_with_6(&steep, &dir.path().join("run"), &["step 0", "the gradient of ", "not finite"]);
    assert!(dump["what"].as_str().unwrap().contains("layers."), "{dump}");
}
