//! Values and gradients of the shared golden files; skipped by name where they are not at hand.
use std::{path::PathBuf, str::FromStr};

use bpo_loss::{LossType, Objective, PairLogps};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

fn golden(name: &str) -> Option<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden").join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: golden {name}: no {}", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

/// Golden files spell non-finite numbers as strings.
fn numbers(value: &Value) -> Vec<f64> {
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| v.as_str().unwrap().parse().unwrap());
    value.as_array().unwrap().iter().map(number).collect()
}

fn tensor(values: &[f64], device: &Device) -> Tensor<1> {
    let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

fn close(file: &str, case: &str, what: &str, actual: Tensor<1>, expected: &[f64]) {
    let actual: Vec<f32> = actual.try_into_vec_as().unwrap();
    for (actual, expected) in actual.iter().zip(expected) {
        let error = (f64::from(*actual) - expected).abs() / expected.abs().max(1.0);
        assert!(error < 1e-4, "{file} {case} {what}: {actual} instead of {expected}");
    }
}

fn check(file: &str, loss: &str, ipo_length_norm: bool) {
    let Some(golden) = golden(file) else { return };
    let device = Device::flex().autodiff();
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        if case["finite_in_float32"] == Value::Bool(false) {
            continue;
        }
        let input = |key: &str| numbers(&case["inputs"][key]);
        let objective = Objective {
            loss_type: LossType::from_str(loss).unwrap(),
            beta: case["hyper"]["beta"].as_f64().unwrap(),
            label_smoothing: case["hyper"]["label_smoothing"].as_f64().unwrap_or(0.0),
            ipo_length_norm,
        };
        let chosen = tensor(&input("policy_chosen_logps"), &device).require_grad();
        let rejected = tensor(&input("policy_rejected_logps"), &device).require_grad();
        let lengths = ["chosen_lengths", "rejected_lengths"].map(|key| tensor(&input(key), &device));
        let [chosen_lengths, rejected_lengths] = lengths;
        let policy = PairLogps::new(chosen.clone(), rejected.clone())
            .and_then(|policy| policy.with_lengths(chosen_lengths, rejected_lengths))
            .unwrap();
        let reference =
            PairLogps::new(tensor(&input("ref_chosen_logps"), &device), tensor(&input("ref_rejected_logps"), &device))
                .unwrap();
        let losses = objective.losses(&policy, &reference).unwrap();
        close(file, name, "losses", losses.clone().inner(), &numbers(&case["expected"]["losses"]));
        let gradients = losses.mean().backward();
        let of = |leaf: &Tensor<1>| leaf.grad(&gradients).unwrap();
        close(file, name, "chosen", of(&chosen), &numbers(&case["expected"]["grad_policy_chosen_logps"]));
        close(file, name, "rejected", of(&rejected), &numbers(&case["expected"]["grad_policy_rejected_logps"]));
    }
}

#[test]
fn dpo_agrees_with_the_golden_vectors() {
    check("loss_sigmoid.json", "sigmoid", true);
}

#[test]
fn slic_hinge_agrees_with_the_golden_vectors() {
    check("loss_hinge.json", "hinge", true);
}

#[test]
fn ipo_averaged_agrees_with_the_golden_vectors() {
    check("loss_ipo.json", "ipo", true);
}

#[test]
fn ipo_summed_agrees_with_the_golden_vectors() {
    check("loss_ipo_sum.json", "ipo", false);
}

/// At a refresh the policy equals its reference: ρ = 0 and the gradient must be −β/2, −β, −1/β, not 0.
#[test]
fn the_gradient_at_a_refresh_pushes_the_margin_up() {
    let device = Device::flex().autodiff();
    for (loss, slope) in [("sigmoid", -0.05f32), ("hinge", -0.1), ("ipo", -10.0)] {
        let objective = Objective { loss_type: loss.parse().unwrap(), ipo_length_norm: false, ..Objective::default() };
        let chosen = tensor(&[-20.0], &device).require_grad();
        let rejected = tensor(&[-31.5], &device);
        let policy = PairLogps::new(chosen.clone(), rejected.clone()).unwrap();
        let reference = PairLogps::new(chosen.clone().detach(), rejected).unwrap();
        let gradients = objective.losses(&policy, &reference).unwrap().mean().backward();
        let gradient: f32 = chosen.grad(&gradients).unwrap().into_scalar();
        assert!((gradient - slope).abs() < 1e-5, "{loss}: {gradient} instead of {slope}");
    }
}
