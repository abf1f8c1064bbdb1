//! Every loss and its gradient in the device's f32 against flex's f64, which bpo-loss holds against PyTorch.
use bpo_loss::{FDivergence, LossType, Objective, PairLogps};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{conclude, device_under_test, host, reference};
use crate::golden::Check;

/// Relative to max(1, |value|), as of bpo-loss's golden files in f32.
const TOLERANCE: f64 = 1e-4;

#[test]
fn losses_have_the_values_and_slopes_of_f64() {
    let (device, mut check) = (device_under_test().autodiff(), Check::default());
    let exact = reference().autodiff();
    for (name, objective, pairs) in objectives() {
        check.case();
        let [expected, expected_chosen, expected_rejected] = evaluate(&objective, &pairs, &exact, DType::F64);
        let [losses, chosen, rejected] = evaluate(&objective, &pairs, &device, DType::F32);
        check.close("losses", &name, &losses, &expected, TOLERANCE);
        check.close("slopes by chosen", &name, &chosen, &expected_chosen, TOLERANCE);
        check.close("slopes by rejected", &name, &rejected, &expected_rejected, TOLERANCE);
    }
    conclude("losses against f64", &check);
}

/// Every loss by name, and every divergence.
fn objectives() -> Vec<(String, Objective, Pairs)> {
    let losses = LossType::ALL.map(|loss| (loss.to_string(), Objective::from(loss), Pairs::far()));
    let divergences = [
        ("forward_kl", FDivergence::ForwardKl),
        ("js_divergence", FDivergence::JsDivergence),
        ("alpha_divergence", FDivergence::AlphaDivergence { coefficient: 0.5 }),
    ];
    let divergences = divergences.map(|(name, divergence)| {
        (format!("sigmoid, {name}"), Objective { divergence, ..Objective::default() }, Pairs::near())
    });
    losses.into_iter().chain(divergences).collect()
}

/// Summed log-probs and lengths, all of them numbers that f32 holds.
struct Pairs {
    policy: [Vec<f64>; 2],
    reference: [Vec<f64>; 2],
    lengths: [Vec<f64>; 2],
}

impl Pairs {
    /// Log-ratio margins from −8 to 8 nats.
    fn near() -> Self {
        Self::with_margins((-32..=32).map(|quarter| f64::from(quarter) / 4.0).collect())
    }

    /// As [`Pairs::near`], and some from −300 to 300.
    fn far() -> Self {
        let near = (-32..=32).map(|quarter| f64::from(quarter) / 4.0);
        Self::with_margins(near.chain([-300.0, -100.0, -30.0, 30.0, 100.0, 300.0]).collect())
    }

    fn with_margins(margins: Vec<f64>) -> Self {
        let each = |of: &dyn Fn(usize, f64) -> f64| margins.iter().enumerate().map(|(i, &m)| of(i, m)).collect();
        let (chosen, rejected) = (|i: usize| -40.0 - (i % 7) as f64, |i: usize| -38.5 - (i % 5) as f64);
        Self {
            policy: [each(&|i, margin| chosen(i) + margin / 2.0), each(&|i, margin| rejected(i) - margin / 2.0)],
            reference: [each(&|i, _| chosen(i)), each(&|i, _| rejected(i))],
            lengths: [each(&|i, _| 12.0 + (i % 9) as f64), each(&|i, _| 9.0 + (i % 4) as f64)],
        }
    }
}

/// Losses, and the gradient of their mean times their count by the policy's log-probs.
fn evaluate(objective: &Objective, pairs: &Pairs, device: &Device, dtype: DType) -> [Vec<f64>; 3] {
    let row =
        |values: &[f64]| Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, dtype));
    let with_lengths = |[chosen, rejected]: [Tensor<1>; 2]| {
        let [of_chosen, of_rejected] = pairs.lengths.each_ref().map(|lengths| row(lengths));
        PairLogps::new(chosen, rejected).and_then(|logps| logps.with_lengths(of_chosen, of_rejected)).unwrap()
    };
    let policy = pairs.policy.each_ref().map(|values| row(values).require_grad());
    let reference = with_lengths(pairs.reference.each_ref().map(|values| row(values)));
    let losses = objective.losses(&with_lengths(policy.clone()), &reference).unwrap();
    let gradients = losses.clone().sum().backward();
    let slope = |leaf: &Tensor<1>| leaf.grad(&gradients).map_or_else(|| vec![0.0; leaf.dims()[0]], host);
    [host(losses), slope(&policy[0]), slope(&policy[1])]
}
