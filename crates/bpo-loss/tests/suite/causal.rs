//! Value estimators for texts with outcomes: their values, their gradients and where they stay finite.
use bpo_loss::{
    Error, GeneratedTexts, Importance, ImportanceMetrics, LoggedTexts, OfficialCausal, OfficialTexts, doubly_robust,
    ipw, model_value,
};
use burn::tensor::{Device, Tensor};
use proptest::prelude::*;

fn row(values: &[f32]) -> Tensor<1> {
    Tensor::from_floats(values, &Device::flex().autodiff())
}

fn host(tensor: Tensor<1>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

/// Losses and the gradient of their mean, by log-ratio.
fn ipw_of(log_ratios: &[f32], outcomes: &[f32], importance: Importance) -> (Vec<f32>, Vec<f32>) {
    let policy = row(log_ratios).require_grad();
    let losses = ipw(policy.clone(), row(&vec![0.0; log_ratios.len()]), row(outcomes), &importance).unwrap();
    let gradients = losses.clone().mean().backward();
    (host(losses), policy.grad(&gradients).map(host).unwrap_or_default())
}

fn near(left: &[f32], right: &[f32]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0))
}

#[test]
fn ipw_weighs_every_outcome_with_its_ratio_and_its_gradient_is_the_loss() {
    let ratios = [2.0f32, 0.5, 1.0];
    let (losses, gradient) = ipw_of(&ratios.map(f32::ln), &[1.0, -4.0, 0.0], Importance::default());
    assert!(near(&losses, &[-2.0, 2.0, 0.0]) && near(&gradient, &[-2.0 / 3.0, 2.0 / 3.0, 0.0]));
}

#[test]
fn a_weighted_outcome_is_finite_where_the_ratio_alone_overflows() {
    let (losses, gradient) = ipw_of(&[95.0, -200.0, 120.0], &[1e-12, 1.0, 0.0], Importance::default());
    let expected = -(95f64.exp() * 1e-12) as f32;
    assert!((losses[0] / expected - 1.0).abs() < 1e-4, "{losses:?}");
    assert_eq!(losses[1..], [0.0, 0.0]);
    assert!(gradient.iter().all(|slope| slope.is_finite()), "{gradient:?}");
    let (losses, gradient) =
        ipw_of(&[200.0, -200.0], &[1.0, 1.0], Importance { self_normalised: true, ratio_clip: None });
    assert!(near(&losses, &[-2.0, 0.0]) && near(&gradient, &[0.0, 0.0]), "{losses:?} {gradient:?}");
}

#[test]
fn a_clipped_ratio_counts_as_its_bound_and_has_no_gradient() {
    let clip = Importance { self_normalised: false, ratio_clip: Some([0.8, 1.2]) };
    let ratios = [0.1f32, 1.1, 9.0, 1e30];
    let (losses, gradient) = ipw_of(&ratios.map(f32::ln), &[1.0; 4], clip);
    assert!(near(&losses, &[-0.8, -1.1, -1.2, -1.2]), "{losses:?}");
    assert!(near(&gradient, &[0.0, -1.1 / 4.0, 0.0, 0.0]), "{gradient:?}");
    let only_above = Importance { self_normalised: false, ratio_clip: Some([0.0, 2.0]) };
    assert!(near(&ipw_of(&[-3.0, 5.0], &[1.0; 2], only_above).0, &[-(-3f32).exp(), -2.0]));
}

#[test]
fn doubly_robust_is_exact_when_the_outcome_model_is_whatever_the_ratios() {
    let (predicted, drawn) = ([0.3f32, -0.7], [0.5f32, 0.1, -0.2]);
    let logged = LoggedTexts {
        policy_logps: row(&[3.0, -5.0]),
        logging_logps: row(&[0.0, 0.0]),
        outcomes: row(&predicted),
        predicted: row(&predicted),
    };
    let logps = row(&[-1.0, -2.0, -3.0]);
    let generated = GeneratedTexts { policy_logps: logps.clone(), generator_logps: logps, predicted: row(&drawn) };
    let losses = doubly_robust(logged, generated, &Importance::default(), true).unwrap();
    assert_eq!(host(losses.residual.clone()), [0.0, 0.0]);
    let mean = drawn.iter().sum::<f32>() / 3.0;
    assert!(near(&host(losses.total()), &[-mean]));
}

/// ∇E ĝ of a softmax policy over three texts, summed over all of them, is the score function's.
#[test]
fn the_model_terms_gradient_is_that_of_the_expectation() {
    let (logits, predicted) = ([0.4f32, -1.0, 0.2], [2.0f32, -1.0, 0.5]);
    let leaf = row(&logits).require_grad();
    let probabilities = burn::tensor::activation::softmax(leaf.clone(), 0);
    let expected = leaf.grad(&(probabilities.clone() * row(&predicted)).sum().neg().backward()).map(host).unwrap();
    let leaf = row(&logits).require_grad();
    let logps = burn::tensor::activation::log_softmax(leaf.clone(), 0);
    let texts =
        GeneratedTexts { policy_logps: logps.clone(), generator_logps: logps.detach(), predicted: row(&predicted) };
    let surrogate = (model_value(texts, false).unwrap() * probabilities.detach()).sum();
    assert!(near(&leaf.grad(&surrogate.backward()).map(host).unwrap(), &expected));
}

#[test]
fn the_baseline_is_the_mean_of_the_others_and_leaves_the_value() {
    let logps = row(&[-1.0, -2.0, -3.0]).require_grad();
    let texts = |predicted: &[f32]| GeneratedTexts {
        policy_logps: logps.clone(),
        generator_logps: logps.clone().detach(),
        predicted: row(predicted),
    };
    let losses = model_value(texts(&[3.0, 0.0, 1.0]), true).unwrap();
    assert!(near(&host(losses.clone()), &[-3.0, 0.0, -1.0]));
    let gradients = losses.sum().backward();
    assert!(near(&logps.grad(&gradients).map(host).unwrap(), &[-2.5, 2.0, 0.5]));
}

#[test]
fn a_batch_of_one_has_no_gradient_in_the_official_form() {
    let scores = row(&[7.0]).require_grad();
    let texts = OfficialTexts { scores: scores.clone(), start_scores: row(&[3.0]), predicted: row(&[0.1]) };
    let official =
        OfficialCausal { c_ipw: 1.0, c_rlhf: 1.0, pr_scale: 2.0, stabilise: None, higher_outcome_better: true };
    let losses = official.losses(&texts, &row(&[1.0]), None).unwrap();
    assert!(near(&host(losses.clone()), &[-0.5]));
    assert_eq!(scores.grad(&OfficialCausal::mean(losses).backward()).map(host), Some(vec![0.0]));
}

#[test]
fn stabilising_takes_the_smaller_of_the_plain_and_the_clamped_term() {
    let texts = |predicted: &[f32]| OfficialTexts {
        scores: row(&[0.0, 3f32.ln()]),
        start_scores: row(&[0.0, 0.0]),
        predicted: row(predicted),
    };
    let official = OfficialCausal {
        c_ipw: 0.0,
        c_rlhf: 1.0,
        pr_scale: 1.0,
        stabilise: Some(OfficialCausal::STABILISE),
        higher_outcome_better: false,
    };
    // Weights ¼ and ¾, clamped 0.8 and 0.8.
    let losses = official.losses(&texts(&[0.0; 2]), &row(&[0.0; 2]), Some(&texts(&[1.0, -1.0]))).unwrap();
    assert!(near(&host(losses), &[0.25, -0.8]));
}

#[test]
fn losses_that_are_no_numbers_do_not_count_in_the_official_mean() {
    let mean = |values: &[f32]| host(OfficialCausal::mean(row(values)))[0];
    assert_eq!(mean(&[1.0, f32::NAN, 3.0, f32::INFINITY]), 2.0);
    assert_eq!(mean(&[1.0, f32::NEG_INFINITY]), f32::NEG_INFINITY);
    assert!(mean(&[f32::NAN]).is_nan());
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let two = row(&[0.0, 0.0]);
    let refused = ipw(two.clone(), row(&[0.0]), two.clone(), &Importance::default());
    assert!(matches!(refused, Err(Error::LengthMismatch { .. })));
    for clip in [[1.2, 0.8], [-0.1, 1.0], [0.0, 0.0], [0.0, f64::INFINITY], [f64::NAN, 1.0]] {
        let importance = Importance { self_normalised: false, ratio_clip: Some(clip) };
        let refused = ipw(two.clone(), two.clone(), two.clone(), &importance);
        assert!(matches!(refused, Err(Error::BadHyperparameter { name: "ratio_clip", .. })), "{clip:?}");
    }
}

#[test]
fn the_effective_sample_size_counts_texts_and_survives_any_ratio() {
    let outcomes = [1.0, 0.0, -1.0, 2.0];
    let equal = ImportanceMetrics::of(&[1.0; 4], &[1.0; 4], &outcomes);
    assert_eq!((equal.effective_samples, equal.max_ratio, equal.value_ipw), (4.0, 1.0, 0.5));
    let one = ImportanceMetrics::of(&[300.0, 0.0, 0.0, 0.0], &[0.0; 4], &outcomes);
    assert!((one.effective_samples - 1.0).abs() < 1e-9 && (one.value_self_normalised - 1.0).abs() < 1e-9);
    let far = ImportanceMetrics::of(&[-900.0; 4], &[0.0; 4], &outcomes);
    assert!((far.effective_samples - 4.0).abs() < 1e-9 && (far.value_self_normalised - 0.5).abs() < 1e-9);
}

proptest! {
    /// Hájek's estimate does not know by how much all ratios are wrong together, and lies among the outcomes.
    #[test]
    fn self_normalised_values_ignore_a_common_factor_and_stay_among_the_outcomes(
        texts in prop::collection::vec((-200f32..200.0, -3f32..3.0), 1..8), shift in -50f32..50.0,
    ) {
        let (log_ratios, outcomes): (Vec<f32>, Vec<f32>) = texts.into_iter().unzip();
        let shifted: Vec<f32> = log_ratios.iter().map(|log_ratio| log_ratio + shift).collect();
        let hajek = Importance { self_normalised: true, ratio_clip: None };
        let mean = |losses: Vec<f32>| losses.iter().sum::<f32>() / losses.len() as f32;
        let value = -mean(ipw_of(&log_ratios, &outcomes, hajek).0);
        let moved = -mean(ipw_of(&shifted, &outcomes, hajek).0);
        prop_assert!((value - moved).abs() < 1e-3, "{value} {moved}");
        let (low, high) = outcomes.iter().fold((3f32, -3f32), |(low, high), y| (low.min(*y), high.max(*y)));
        prop_assert!(value >= low - 1e-4 && value <= high + 1e-4);
    }
}
