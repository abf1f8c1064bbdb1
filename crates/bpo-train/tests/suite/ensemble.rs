//! Members on the same pairs, and the merge that is the policy.
use bpo_model::{Adapter, AdapterMerge, merge_adapters};
use bpo_train::{CollectionPhases, Inputs, Recipe, Reference};
use serde_json::json;

use crate::{
    tiny::{adapter, inputs, model, recipe},
    trial::{Trial, close, distance, each, trial, trial_on, values},
};

fn three() -> Recipe {
    Recipe {
        ensemble_size: 3,
        max_steps: 4,
        collection_phases: CollectionPhases::EveryStep,
        per_device_train_batch_size: 2,
        eval_size: 2,
        ..recipe()
    }
}

fn members(trial: &Trial) -> Vec<Adapter> {
    (0..3).map(|index| trial.adapter(&format!("members/{index}/adapter"))).collect()
}

/// All weights of the tiny model with an adapter folded in.
fn folded(adapter: &Adapter) -> Vec<f32> {
    let folded = model(json!({})).with_adapter(adapter, 0.0).unwrap().merged();
    folded.parameters().iter().flat_map(|(_, tensor)| tensor.clone().try_into_vec_as::<f32>().unwrap()).collect()
}

#[test]
fn the_written_adapter_is_the_merge_of_members_that_differ() {
    let methods = [AdapterMerge::Mean, AdapterMerge::Concat, AdapterMerge::Svd(2), AdapterMerge::PeftLinear];
    each(&methods, |&ensemble_merge| {
        let trial = trial(&Recipe { ensemble_merge, ..three() });
        let members = members(&trial);
        let apart = distance(&values(&members[0]), &values(&members[1]));
        assert!(apart > 0.1, "{ensemble_merge}: members are {apart} apart");
        let merged = merge_adapters(&members.iter().collect::<Vec<_>>(), &[1.0 / 3.0; 3], ensemble_merge).unwrap();
        assert!(close(&trial.weights(), &values(&merged.adapter), 1e-6), "{ensemble_merge}");
        let means: Vec<Vec<f32>> = members.iter().map(folded).collect();
        let mean: Vec<f32> = (0..means[0].len()).map(|i| means.iter().map(|m| m[i]).sum::<f32>() / 3.0).collect();
        let is_the_mean = close(&folded(&trial.adapter("adapter")), &mean, 1e-5);
        let exact = matches!(ensemble_merge, AdapterMerge::Mean | AdapterMerge::Concat);
        assert_eq!(is_the_mean, exact, "{ensemble_merge}");
    });
}

/// Members that see other pairs, another reference or another learning rate drift apart.
#[test]
fn members_that_start_equal_and_see_the_same_pairs_stay_equal() {
    let same = adapter(&model(json!({})), &["all-linear"]);
    let recipe = Recipe { lora_r: 3, lora_alpha: 6.0, learning_rate: 0.005, ..three() };
    let trial = trial_on(&recipe, Inputs { adapters: vec![same.clone(); 3], ..inputs() });
    let members: Vec<Vec<f32>> = members(&trial).iter().map(values).collect();
    assert!(members[0] == members[1] && members[0] == members[2]);
    assert!(distance(&members[0], &values(&same)) > 1e-3, "nothing was trained");
    // And they do what one of them does alone.
    let single = trial_on(&Recipe { ensemble_size: 1, ..recipe }, Inputs { adapters: vec![same], ..inputs() });
    assert!(close(&members[0], &single.weights(), 1e-3), "{}", distance(&members[0], &single.weights()));
}

#[test]
fn every_member_has_dropout_masks_of_its_own() {
    let same = adapter(&model(json!({})), &["all-linear"]);
    let recipe = Recipe { lora_r: 3, lora_alpha: 6.0, lora_dropout: 0.2, max_steps: 1, ..three() };
    let members = members(&trial_on(&recipe, Inputs { adapters: vec![same; 3], ..inputs() }));
    assert!(distance(&values(&members[0]), &values(&members[1])) > 1e-3);
}

#[test]
fn the_first_member_starts_as_the_policy_of_a_plain_run() {
    let still = Recipe { learning_rate: 0.0, max_steps: 1, ..three() };
    let (ensemble, single) = (trial(&still), trial(&Recipe { ensemble_size: 1, ..still.clone() }));
    assert_eq!(values(&ensemble.adapter("members/0/adapter")), single.weights());
    assert!(!single.path().join("members").exists());
    assert!(
        single.metrics().iter().all(|metrics| metrics.as_object().unwrap().keys().all(|k| !k.contains("ensemble")))
    );
}

#[test]
fn members_sample_from_their_merge_and_are_measured_against_it() {
    let trial = trial(&three());
    // Before the first step every member equals the merge; after it none does, whatever is refreshed.
    let ln2 = 2f64.ln();
    let losses = trial.metric("loss");
    assert!((losses[0] - ln2).abs() < 1e-5, "{losses:?}");
    assert!(losses[1..].iter().all(|loss| (loss - ln2).abs() > 1e-4), "{losses:?}");
    assert_eq!(trial.metric("collect/logp_gap"), [0.0; 0], "members are not the policy that sampled");
    let last = trial.drawn().pop().unwrap();
    assert!(last.iter().all(|drawn| drawn.samples.len() == 2));
}

#[test]
fn the_spread_of_the_members_and_the_error_of_their_merge_are_metrics() {
    let metric = |ensemble_merge, name: &str| trial(&Recipe { ensemble_merge, ..three() }).metric(name);
    let exact = trial(&three());
    for name in ["ensemble/spread", "ensemble/disagreement"] {
        let values = exact.metric(name);
        assert!(values.len() >= 3 && values[1..].iter().all(|value| *value > 1e-3), "{name}: {values:?}");
    }
    assert_eq!(exact.metric("ensemble/merge_error"), [0.0; 4]);
    for how in [AdapterMerge::Svd(1), AdapterMerge::PeftLinear] {
        let errors = metric(how, "ensemble/merge_error");
        assert_eq!(errors.len(), 4);
        assert_eq!(errors[0], 0.0, "{how}: B is zero");
        assert!(errors[1..].iter().all(|error| *error > 1e-3), "{how}: {errors:?}");
    }
}

/// With an ensemble at F = T the reference still holds the members; with one policy it cannot.
#[test]
fn only_a_single_policy_is_warned_that_it_always_equals_its_reference() {
    let single = Recipe { ensemble_size: 1, ..three() };
    let warning = ["warning", "rho is 0", "ensemble_size"];
    assert!(trial(&single).noted(&warning));
    assert!(!trial(&three()).noted(&warning));
    assert!(!trial(&Recipe { reference: Reference::Initial, ..single }).noted(&warning));
}

#[test]
fn an_ensemble_learns() {
    let recipe = Recipe { max_steps: 30, eval_size: 20, per_device_train_batch_size: 4, ..three() };
    let trial = trial(&recipe);
    let [before, after] = trial.report.scores.unwrap();
    assert!(after.mean > before.mean + 0.3, "{before:?} {after:?}");
    let norms = trial.metric("grad_norm");
    assert!(norms.len() > 20 && norms.iter().all(|norm| *norm > 0.0), "{norms:?}");
}
