//! The chunked head against log-softmax and autodiff.
use bpo_loss::{Error, Head, sequence_logps};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};
use proptest::prelude::*;

fn matrix(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

fn largest_difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).max_by(f32::total_cmp).unwrap_or(0.0)
}

#[derive(Debug, Clone)]
struct Case {
    hidden: Vec<f32>,
    weight: Vec<f32>,
    targets: Vec<u32>,
    coefficients: Vec<f32>,
    width: usize,
    chunk: usize,
    softcap: Option<f64>,
}

impl Case {
    /// What the rounding of logits may do to log-probs, and relatively to probabilities: a few units in the last place
    /// of the largest logit that there could be, at least 1e-6.
    fn rounding(&self) -> f32 {
        1e-6f32.max(4.0 * f32::EPSILON * (1.0 + self.width as f32 * largest(&self.hidden) * largest(&self.weight)))
    }

    /// The largest that a coefficient times one of `values` could be, at least 1.
    fn largest_product(&self, values: &[f32]) -> f32 {
        (largest(&self.coefficients) * largest(values)).max(1.0)
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

fn case() -> impl Strategy<Value = Case> {
    let softcap = prop_oneof![Just(None), (0.5..40.0).prop_map(Some)];
    (1usize..9, 1usize..7, 2usize..40, 1usize..12, softcap).prop_flat_map(|(tokens, width, vocab, chunk, softcap)| {
        let reals = |n: usize| prop::collection::vec(-4.0f32..4.0, n);
        (reals(tokens * width), reals(vocab * width), prop::collection::vec(0..vocab as u32, tokens), reals(tokens))
            .prop_map(move |(hidden, weight, targets, coefficients)| Case {
                hidden,
                weight,
                targets,
                coefficients,
                width,
                chunk,
                softcap,
            })
    })
}

/// `Σ c_t log p(y_t)` by log-softmax and autodiff: log-probs, gradient in hidden states, in weights.
fn plain(case: &Case) -> [Vec<f32>; 3] {
    let device = Device::flex().autodiff();
    let tokens = case.targets.len();
    let hidden = matrix(case.hidden.clone(), [tokens, case.width], &device).require_grad();
    let weight = matrix(case.weight.clone(), [case.weight.len() / case.width, case.width], &device).require_grad();
    let targets: Vec<i64> = case.targets.iter().map(|&t| i64::from(t)).collect();
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [tokens, 1]), &device);
    let logits = hidden.clone().matmul(weight.clone().transpose());
    let logits = case.softcap.map_or_else(|| logits.clone(), |cap| (logits.clone() / cap).tanh() * cap);
    let logps: Tensor<1> = log_softmax(logits, 1).gather(1, targets).squeeze_dim(1);
    let coefficients = Tensor::<1>::from_data(TensorData::new(case.coefficients.clone(), [tokens]), &device);
    let gradients = (logps.clone() * coefficients).sum().backward();
    [host(logps), host(hidden.grad(&gradients).unwrap()), host(weight.grad(&gradients).unwrap())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn chunked_values_and_gradients_equal_the_plain_log_softmax(case in case()) {
        let [logps, hidden_gradient, weight_gradient] = plain(&case);
        let device = Device::flex();
        let tokens = case.targets.len();
        let hidden = matrix(case.hidden.clone(), [tokens, case.width], &device);
        let weight = matrix(case.weight.clone(), [case.weight.len() / case.width, case.width], &device);
        let head = Head::new(weight).with_chunk(case.chunk).with_softcap(case.softcap);

        let rounding = case.rounding();
        let scored = head.score_with_slopes(&hidden, &case.targets).unwrap();
        prop_assert!(largest_difference(&host(scored.logps), &logps) < rounding);
        let scale = matrix(case.coefficients.clone(), [tokens, 1], &device);
        let bound = rounding * case.largest_product(&case.weight);
        prop_assert!(largest_difference(&host(scored.slopes.unwrap() * scale), &hidden_gradient) < bound);

        let gradients = head.gradients(&hidden, &case.targets, &case.coefficients).unwrap();
        prop_assert!(largest_difference(&host(gradients.hidden), &hidden_gradient) < bound);
        let bound = rounding * case.largest_product(&case.hidden) * tokens as f32;
        prop_assert!(largest_difference(&host(gradients.weight), &weight_gradient) < bound);
    }
}

#[test]
fn logits_of_ten_thousand_stay_finite() {
    let device = Device::flex();
    let head = Head::new(matrix(vec![1e4, -1e4, 0.0], [3, 1], &device));
    let scored = head.score_with_slopes(&matrix(vec![1.0, 1.0], [2, 1], &device), &[0, 1]).unwrap();
    assert_eq!(host(scored.logps), [0.0, -2e4]);
    assert!(host(scored.slopes.unwrap()).iter().all(|v| v.is_finite()));
}

#[test]
fn a_target_outside_the_vocabulary_is_an_error() {
    let device = Device::flex();
    let head = Head::new(matrix(vec![0.0; 6], [3, 2], &device));
    let error = head.score(&matrix(vec![0.0; 4], [2, 2], &device), &[1, 3]).unwrap_err();
    assert_eq!(error, Error::TokenOutOfVocabulary { token: 3, position: 1, vocab: 3 });
}

#[test]
fn ignored_positions_do_not_count_in_sequence_logps() {
    let device = Device::flex();
    let logits = Tensor::<3>::from_data(TensorData::new(vec![0.0f32; 2 * 3 * 4], [2, 3, 4]), &device);
    let labels = Tensor::<2, Int>::from_data(TensorData::new(vec![7i64, -100, 2, -100, -100, -100], [2, 3]), &device);
    let logps = host(sequence_logps(logits, labels));
    assert!((logps[0] + 4f32.ln()).abs() < 1e-6);
    assert_eq!(logps[1], 0.0);
}
