//! Log-probs and gradients of tiny models of every family against transformers, in every layout.
use bpo_data::{Group, Layout, packed, padded, shared_prefix};
use bpo_train::{Gradients, Trainable, backward, sequence_logps};
use serde_json::Value;

use super::{conclude, device_under_test, doubles, host, tiny};
use crate::golden::{Check, numbers};

/// f32 against f64: sums of a few dozen products, twice through two layers.
const LOG_PROBS: f64 = 2e-5;
/// Of the gradient's norm.
const GRADIENTS: f64 = 5e-5;

#[test]
fn tiny_models_have_the_log_probs_and_gradients_that_transformers_gives() {
    let golden: Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    let (device, mut check) = (device_under_test(), Check::default());
    let owned = Groups::of(&golden["groups"]);
    let groups = owned.borrowed();
    let layouts = [
        ("padded", padded(&groups, 0).unwrap()),
        ("shared-prefix", shared_prefix(&groups, 0).unwrap()),
        ("packed", packed(&groups, 0, 32).unwrap()),
    ];
    assert!(layouts[2].1.rows < layouts[1].1.rows, "nothing is packed");
    for case in golden["models"].as_array().unwrap() {
        let base = tiny::model(&case["config"], &device);
        let (rank, alpha) = (golden["rank"].as_u64().unwrap(), golden["alpha"].as_f64().unwrap());
        let lora = Trainable::Lora(tiny::adapter(&base, rank as usize, alpha));
        for (kind, trainable) in [("full", Trainable::Full(base.parameters())), ("lora", lora)] {
            for (layout_name, layout) in &layouts {
                check.case();
                let name = format!("{} {kind}, {layout_name}", case["name"].as_str().unwrap());
                let scored = sequence_logps(&trainable.model(&base).unwrap(), layout).unwrap();
                let expected = numbers(&case[kind]["logps"]);
                check.close("log-probs", &name, &doubles(&scored.tokens.concat()), &expected, LOG_PROBS);
                let (policy, leaves) = trainable.tracked(&base).unwrap();
                let (scored, mut gradients) = backward(&policy, layout, |_| Ok(slopes(layout))).unwrap();
                check.close("log-probs in training", &name, &doubles(&scored.tokens.concat()), &expected, LOG_PROBS);
                let mut ours = Gradients::default();
                ours.add(&leaves, &mut gradients);
                compare(&mut check, &name, &ours, &case[kind]["gradients"]);
            }
        }
    }
    conclude("models against transformers", &check);
}

/// dL/d(Σ log-prob) of `golden.py`'s L.
fn slopes(layout: &Layout) -> Vec<f32> {
    (0..layout.sequences).map(|index| 0.3 - 0.2 * index as f32).collect()
}

fn compare(check: &mut Check, case: &str, ours: &Gradients, expected: &Value) {
    for (parameter, expected) in expected.as_object().unwrap() {
        let Some(gradient) = ours.get(parameter) else {
            check.fail(format!("{case}: {parameter} has no gradient"));
            continue;
        };
        let [norm, product] = numbers(expected).try_into().unwrap();
        let gradient = host(gradient.clone());
        let along: f64 = gradient.iter().zip(tiny::direction(parameter, gradient.len())).map(|(g, d)| g * d).sum();
        let ours = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let case = format!("{case}, {parameter}");
        check.close("gradients' norms", &case, &[ours / norm], &[1.0], GRADIENTS);
        check.close("gradients along a direction", &case, &[along / norm], &[product], GRADIENTS);
    }
}

/// Prompts and their responses.
struct Groups(Vec<(Vec<u32>, Vec<Vec<u32>>)>);

impl Groups {
    fn of(value: &Value) -> Self {
        let ids = |value: &Value| numbers(value).into_iter().map(|id| id as u32).collect::<Vec<_>>();
        let group =
            |group: &Value| (ids(&group["prompt"]), group["responses"].as_array().unwrap().iter().map(ids).collect());
        Self(value.as_array().unwrap().iter().map(group).collect())
    }

    fn borrowed(&self) -> Vec<Group<'_>> {
        self.0
            .iter()
            .map(|(prompt, responses)| Group { prompt, completions: responses.iter().map(Vec::as_slice).collect() })
            .collect()
    }
}
