//! What the loss measures against: the behaviour, the start, or a policy of its own.
use bpo_model::AdapterMerge;
use bpo_train::{CollectionPhases, Inputs, Recipe, Reference, Trainable};
use serde_json::{Value, json};

use crate::{
    tiny::{adapter, inputs, inputs_of_pairs, model, recipe},
    trial::{Trial, close, distance, each, trial, trial_on, values},
};

const AT_ITS_REFERENCE: [&str; 3] = ["warning", "the policy equals it whenever a gradient is taken", "rho is 0"];

fn short() -> Recipe {
    Recipe { max_steps: 8, per_device_train_batch_size: 3, eval_size: 0, learning_rate: 0.01, ..recipe() }
}

fn ema(ref_model_mixup_alpha: f64, ref_model_sync_steps: u64) -> Recipe {
    Recipe { reference: Reference::Ema, ref_model_mixup_alpha, ref_model_sync_steps, ..short() }
}

fn taken_at(metrics: &[Value], name: &str) -> Vec<u64> {
    metrics.iter().filter_map(|metrics| metrics[name].as_u64()).collect()
}

#[test]
fn a_policy_that_always_equals_its_reference_has_a_constant_loss_and_a_warning() {
    let every_step = CollectionPhases::EveryStep;
    let losses = [("sigmoid", 2f64.ln()), ("hinge", 1.0), ("ipo", 25.0)];
    each(&losses, |&(loss, constant)| {
        let loss = Recipe { loss_type: loss.into(), ..short() };
        let copied =
            Recipe { reference: Reference::Every(1), collection_phases: CollectionPhases::Count(1), ..loss.clone() };
        for recipe in [
            Recipe { collection_phases: every_step, ..loss.clone() },
            copied,
            Recipe { reference: Reference::Ema, ref_model_mixup_alpha: 1.0, ref_model_sync_steps: 1, ..loss.clone() },
        ] {
            let trial = trial(&recipe);
            assert!(trial.noted(&AT_ITS_REFERENCE), "{:?}", trial.notes);
            let (losses, margins) = (trial.metric("loss"), trial.metric("rewards/margins"));
            assert!(losses.len() > 4, "{losses:?}");
            assert!(losses.iter().all(|value| (value / constant - 1.0).abs() < 1e-4), "{losses:?}");
            assert!(margins.iter().all(|margin| margin.abs() < 1e-5), "{margins:?}");
        }
    });
    assert!(!trial(&short()).noted(&AT_ITS_REFERENCE));
}

#[test]
fn a_loss_that_pushes_the_wrong_way_at_the_reference_is_told_with_its_slope() {
    let with = |loss: &str, recipe: Recipe| trial(&Recipe { loss_type: loss.into(), max_steps: 2, ..recipe });
    let lowers =
        |extent: &str| vec!["warning".to_string(), extent.into(), "lowers the margin".into(), "slope +".into()];
    for (recipe, extent) in [
        (Recipe { collection_phases: CollectionPhases::EveryStep, ..short() }, "at every step"),
        (Recipe { reference: Reference::Initial, ..short() }, "at the start"),
        (Recipe { collection_phases: CollectionPhases::Count(1), ..short() }, "after every refresh"),
    ] {
        let words = lowers(extent);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert!(with("discopop", recipe.clone()).noted(&words), "{extent}");
        assert!(!with("sigmoid", recipe).noted(&["lowers the margin"]));
    }
}

#[test]
fn an_ema_that_goes_all_the_way_is_a_copy() {
    let all_the_way = [(1, Reference::Every(1)), (3, Reference::Every(3))];
    each(&all_the_way, |&(steps, reference)| {
        let (ema, copied) = (trial(&ema(1.0, steps)), trial(&Recipe { reference, ..short() }));
        assert!(ema.bytes() == copied.bytes(), "{reference}");
        assert_eq!(ema.metric("loss"), copied.metric("loss"));
    });
}

#[test]
fn an_ema_that_hardly_moves_is_the_start_and_one_in_between_is_neither() {
    let initial = trial(&Recipe { reference: Reference::Initial, ..short() });
    let (still, following) = (trial(&ema(1e-9, 1)), trial(&ema(0.9, 1)));
    assert!(close(&still.weights(), &initial.weights(), 1e-4), "{}", distance(&still.weights(), &initial.weights()));
    let copied = trial(&Recipe { reference: Reference::Every(1), ..short() });
    // The margin to the reference: none to a copy, least to the one that follows, most to the start.
    let margin = |trial: &Trial| trial.metric("rewards/margins").iter().map(|m| m.abs()).sum::<f64>();
    let margins = [margin(&copied), margin(&following), margin(&initial)];
    assert!(margins[0] < 1e-5 && margins[0] < margins[1] && margins[1] < 0.6 * margins[2], "{margins:?}");
}

#[test]
fn a_move_is_made_number_by_number() {
    let base = model(json!({}));
    let (from, to) =
        (adapter(&base, &["q_proj"]), bpo_model::Adapter::new(&base, adapter(&base, &["q_proj"]).config, 4));
    let to = to.unwrap();
    let moved = Trainable::Lora(from.clone()).moved_towards(&Trainable::Lora(to.clone()), 0.25);
    let expected: Vec<f32> = values(&from).iter().zip(values(&to)).map(|(a, b)| 0.75 * a + 0.25 * b).collect();
    assert!(close(&values(moved.adapter().unwrap()), &expected, 1e-7));
}

#[test]
fn references_are_taken_at_their_steps() {
    let cases: [(Recipe, &[u64]); 3] = [
        (Recipe { reference: Reference::Every(3), ..short() }, &[0, 0, 0, 3, 3, 3, 6, 6]),
        (ema(0.5, 2), &[0, 0, 2, 2, 4, 4, 6, 6]),
        (short(), &[]),
    ];
    each(&cases, |(recipe, expected)| {
        let metrics = trial(recipe).metrics();
        assert_eq!(taken_at(&metrics, "reference/taken_at"), *expected, "{}", recipe.reference);
        // F = 3 in 8 steps, whatever the reference does.
        assert_eq!(taken_at(&metrics, "behaviour/taken_at"), [0, 0, 0, 3, 3, 3, 6, 6]);
    });
}

/// The paper's reference rule by another name: F = 4 in 8 steps is a copy every 2. One reads the log-probs that came
/// with the samples, the other scores them again.
#[test]
fn a_copy_at_every_refresh_is_the_behaviour() {
    let four = Recipe { collection_phases: CollectionPhases::Count(4), ..short() };
    let (recorded, scored) = (trial(&four), trial(&Recipe { reference: Reference::Every(2), ..four.clone() }));
    let texts = |trial: &Trial| -> Vec<String> {
        let drawn = trial.drawn();
        drawn[..4].iter().flatten().flat_map(|drawn| &drawn.samples).map(|sample| sample.text.clone()).collect()
    };
    assert_eq!(texts(&recorded), texts(&scored));
    for (ours, theirs) in recorded.metric("loss").iter().zip(scored.metric("loss")) {
        assert!((ours - theirs).abs() < 2e-3, "{ours} {theirs}");
    }
    let initial = trial(&Recipe { reference: Reference::Initial, ..four });
    let apart = distance(&recorded.weights(), &scored.weights());
    assert!(distance(&initial.weights(), &recorded.weights()) > 20.0 * apart, "{apart}");
}

#[test]
fn a_reference_that_never_moves_is_told() {
    assert!(trial(&ema(0.5, 8)).noted(&["warning", "ref_model_sync_steps = 8", "never moves in 8 steps"]));
    assert!(!trial(&ema(0.5, 7)).noted(&["never moves"]));
}

#[test]
fn an_ema_follows_the_merge_of_an_ensemble() {
    let merges = [AdapterMerge::Mean, AdapterMerge::Concat];
    each(&merges, |&ensemble_merge| {
        let ensemble = Recipe { ensemble_size: 2, ensemble_merge, ..ema(1.0, 2) };
        let copied = Recipe { reference: Reference::Every(2), ..ensemble.clone() };
        let copied = Recipe { ref_model_mixup_alpha: 0.6, ref_model_sync_steps: 512, ..copied };
        assert!(trial(&ensemble).bytes() == trial(&copied).bytes(), "{ensemble_merge}");
    });
}

/// Pairs of a file have no recorded log-probs: the reference scores them, and at a refresh it is the policy.
#[test]
fn pairs_of_a_file_are_measured_against_a_reference_that_scores_them() {
    let of_pairs = |reference| Recipe {
        pairs: Some("pairs".into()),
        collection_phases: CollectionPhases::Count(4),
        reference,
        ..short()
    };
    let behaviour = trial_on(&of_pairs(Reference::Behaviour), inputs_of_pairs());
    let initial = trial_on(&of_pairs(Reference::Initial), inputs_of_pairs());
    let is_at_its_reference = |loss: f64| (loss - 2f64.ln()).abs() < 1e-5;
    let refreshed: Vec<bool> = behaviour.metric("loss").into_iter().map(is_at_its_reference).collect();
    assert_eq!(refreshed, [true, false, true, false, true, false, true, false]);
    assert_eq!(initial.metric("loss").into_iter().filter(|loss| is_at_its_reference(*loss)).count(), 1);
}

/// An adapter to start from is also the start that online DPO measures against.
#[test]
fn the_initial_policy_is_the_adapter_that_the_run_starts_from() {
    let recipe = Recipe { reference: Reference::Initial, lora_r: 3, lora_alpha: 6.0, max_steps: 1, ..short() };
    let given = Inputs { adapters: vec![adapter(&model(json!({})), &["all-linear"])], ..inputs() };
    let loss = trial_on(&recipe, given).metric("loss")[0];
    assert!((loss - 2f64.ln()).abs() < 1e-5, "{loss}");
}
