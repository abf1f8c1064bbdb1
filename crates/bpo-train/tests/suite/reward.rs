//! Reward models on pairs in which one word is liked: what is learnt, and that an interruption changes nothing.
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use bpo_model::{Dtype, SequenceClassifier, WeightDtype, write_model};
use bpo_store::RunDir;
use bpo_train::{Outcome, RewardInputs, RewardRecipe, RewardReport, Silent, TrainRows, Tuning, reward};
use burn::tensor::Device;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::{
    runs::Until,
    tiny::{edit, model, pairs, tokenizer},
    trial::each,
};

fn inputs() -> RewardInputs {
    let dir = tempdir().unwrap();
    for (file, bytes) in write_model(&model(json!({})), WeightDtype::F32).unwrap() {
        std::fs::write(dir.path().join(file), bytes).unwrap();
    }
    let (model, made) = SequenceClassifier::to_be_trained(dir.path(), &Device::flex(), Dtype::Auto, 5).unwrap();
    let TrainRows::Pairs(rows) = pairs() else { panic!("not pairs") };
    let base_name = "tiny".to_string();
    RewardInputs { model, made, base_name, tokenizer: tokenizer(), rows, eval_rows: None, companions: Vec::new() }
}

fn recipe(tuning: Tuning) -> RewardRecipe {
    RewardRecipe {
        model: "tiny".into(),
        pairs: "pairs.jsonl".into(),
        tuning,
        eval_share: 0.3,
        max_steps: 60,
        per_device_train_batch_size: 4,
        learning_rate: Some(1e-2),
        save_steps: 4,
        ..RewardRecipe::default()
    }
}

const TUNINGS: [Tuning; 3] = [Tuning::Head, Tuning::Lora, Tuning::Full];

fn run(recipe: &RewardRecipe, dir: &Path) -> RewardReport {
    finished(reward(recipe, inputs(), &RunDir::open(dir).unwrap(), &mut Silent).unwrap())
}

fn finished(outcome: Outcome<RewardReport>) -> RewardReport {
    match outcome {
        Outcome::Finished(report) => *report,
        Outcome::Interrupted(step) => panic!("interrupted after step {step}"),
    }
}

fn metrics(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_tuning_learns_which_responses_are_liked() {
    each(&TUNINGS, |&tuning| {
        let dir = tempdir().unwrap();
        let report = run(&recipe(tuning), dir.path());
        let evaluation = report.evaluation.unwrap();
        assert!(evaluation.pairs >= 6, "{evaluation:?}");
        assert!(evaluation.accuracy.mean >= 0.8, "{tuning:?}: {evaluation:?}");
        assert!(evaluation.margin > 0.5, "{tuning:?}: {evaluation:?}");
        let losses: Vec<f64> = metrics(dir.path()).iter().map(|step| step["loss"].as_f64().unwrap()).collect();
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        assert!(losses.len() == 60 && mean(&losses[45..]) < mean(&losses[..15]), "{tuning:?}: {losses:?}");
        assert_eq!(dir.path().join("adapter").is_dir(), tuning == Tuning::Lora);
        // What is written is what was evaluated.
        let written = SequenceClassifier::from_dir(&dir.path().join("model"), &Device::flex()).unwrap();
        let scores = written.scores(&[&[1, 4, 5], &[1, 6, 5]]).unwrap();
        assert!(scores.iter().all(|score| score.is_finite()), "{scores:?}");
        let finished: Value =
            serde_json::from_slice(&std::fs::read(dir.path().join("finished.json")).unwrap()).unwrap();
        assert_eq!(finished["evaluation"]["accuracy"]["mean"].as_f64(), Some(evaluation.accuracy.mean));
    });
}

#[test]
fn a_run_that_is_stopped_anywhere_ends_in_the_same_bytes() {
    each(&TUNINGS, |&tuning| {
        let recipe = RewardRecipe { max_steps: 9, gradient_accumulation_steps: 2, lora_dropout: 0.1, ..recipe(tuning) };
        let weights = |dir: &Path| std::fs::read(dir.join("model/model.safetensors")).unwrap();
        let whole = tempdir().unwrap();
        run(&recipe, whole.path());
        for (steps, panics) in [(0, false), (6, false), (6, true), (9, false)] {
            let dir = tempdir().unwrap();
            let cut = catch_unwind(AssertUnwindSafe(|| {
                let open = RunDir::open(dir.path()).unwrap();
                reward(&recipe, inputs(), &open, &mut Until::after(steps, panics)).unwrap()
            }));
            let is_cut = |end| matches!(end, Outcome::Interrupted(at) if at == steps);
            assert!(cut.map_or(panics, is_cut), "{tuning:?}, {steps}");
            run(&recipe, dir.path());
            assert_eq!(weights(dir.path()), weights(whole.path()), "{tuning:?}, cut after {steps}");
            assert_eq!(metrics(dir.path()).len(), 9);
        }
    });
}

#[test]
fn a_margin_asks_for_a_larger_distance() {
    let trained = |margin: Option<f64>| {
        let dir = tempdir().unwrap();
        let mut inputs = inputs();
        edit(&mut inputs.rows, |rows| rows.iter_mut().for_each(|row| row.margin = margin));
        let done = reward(&recipe(Tuning::Full), inputs, &RunDir::open(dir.path()).unwrap(), &mut Silent).unwrap();
        finished(done).evaluation.unwrap().margin
    };
    let [with, without] = [Some(5.0), None].map(trained);
    assert!(with > without, "{with}, {without}");
}

#[test]
fn centring_pulls_scores_to_a_mean_of_zero() {
    let trained = |coefficient: f64| {
        let dir = tempdir().unwrap();
        let recipe = RewardRecipe { center_rewards_coefficient: coefficient, ..recipe(Tuning::Full) };
        let evaluation = run(&recipe, dir.path()).evaluation.unwrap();
        (evaluation.chosen + evaluation.rejected).abs()
    };
    assert!(trained(1.0) < 0.5 * trained(0.0).max(0.2), "{} {}", trained(1.0), trained(0.0));
}

#[test]
fn settings_without_an_effect_are_refused_by_their_key() {
    let base = recipe(Tuning::Head);
    for (recipe, key) in [
        (RewardRecipe { gradient_checkpointing: true, ..base.clone() }, "gradient_checkpointing"),
        (RewardRecipe { eval_share: 1.0, ..base.clone() }, "eval_share"),
        (RewardRecipe { max_length: 3, ..base.clone() }, "max_length"),
        (RewardRecipe { center_rewards_coefficient: -1.0, ..base.clone() }, "center_rewards_coefficient"),
        (RewardRecipe { pairs: String::new(), ..base.clone() }, "pairs"),
        (RewardRecipe { model: String::new(), ..base }, "model"),
    ] {
        let refused = recipe.validate().unwrap_err().to_string();
        assert!(refused.contains(key), "{refused}");
    }
}
