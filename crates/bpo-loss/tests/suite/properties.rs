//! What holds for every loss, on random losses, hyper-parameters and batches, in f64.
use bpo_loss::{Form, GpoFunction, LossType, Objective, Term};
use burn::tensor::Device;
use proptest::prelude::*;

use crate::pairs::{Batch, Outcome, distance, row};

const CASES: u32 = 10_000;

fn any_loss() -> impl Strategy<Value = LossType> {
    (0..LossType::ALL.len()).prop_map(|index| LossType::ALL[index].clone())
}

/// 10^uniform.
fn any_beta() -> impl Strategy<Value = f64> {
    (-4.0..1.0).prop_map(|exponent: f64| 10f64.powf(exponent))
}

fn any_objective() -> impl Strategy<Value = Objective> {
    (any_loss(), any_beta(), 0.0..0.49, any::<bool>(), 0.01..2.0, -1.0..1.0).prop_map(
        |(loss, beta, label_smoothing, ipo_length_norm, discopop_tau, bco_delta)| Objective {
            beta,
            label_smoothing,
            ipo_length_norm,
            discopop_tau,
            bco_delta,
            ..loss.into()
        },
    )
}

/// `pairs` pairs of log-ratios up to `largest` nats, at references of up to 300 nats.
fn any_batch(pairs: std::ops::Range<usize>, largest: f64) -> impl Strategy<Value = Batch> {
    let pair = (-largest..largest, -largest..largest, -300.0..-1.0, -300.0..-1.0, 0..400u32, 0..400u32);
    prop::collection::vec(pair, pairs).prop_map(|pairs| {
        let mut batch = Batch::default();
        for (chosen, rejected, ref_chosen, ref_rejected, chosen_length, rejected_length) in pairs {
            for (side, ratio, reference, length) in
                [(0, chosen, ref_chosen, chosen_length), (1, rejected, ref_rejected, rejected_length)]
            {
                batch.policy[side].push(ratio + reference);
                batch.reference[side].push(reference);
                batch.lengths[side].push(f64::from(length));
            }
        }
        batch
    })
}

/// Whether the loss itself leaves f64 at a log-ratio margin ρ, as e^{−βρ} does.
fn overflows(objective: &Objective, rho: f64) -> bool {
    let exponent = objective.beta * rho.abs();
    objective.terms.iter().any(|term| match term.loss_type {
        LossType::Gpo(GpoFunction::Exponential) | LossType::Cell | LossType::Dbaql(_) => exponent > 700.0,
        // e^{−l}·σ(l/τ) → e^{l/τ − l}, and e^{ρ − βρ}.
        LossType::Discopop => objective.discopop_tau > 1.0 && exponent > 700.0,
        LossType::Lrml(Form::Old) => objective.beta > 1.0 && exponent > 700.0,
        _ => false,
    })
}

fn ratio_margins(batch: &Batch) -> impl Iterator<Item = f64> + '_ {
    (0..batch.pairs())
        .map(|i| (batch.policy[0][i] - batch.reference[0][i]) - (batch.policy[1][i] - batch.reference[1][i]))
}

/// The batch moved by `step` along a direction.
fn moved(batch: &Batch, direction: &[[f64; 2]], step: f64) -> Batch {
    let mut moved = batch.clone();
    for (i, direction) in direction.iter().take(batch.pairs()).enumerate() {
        (0..2).for_each(|side| moved.policy[side][i] += step * direction[side]);
    }
    moved
}

fn along(outcome: &Outcome, direction: &[[f64; 2]]) -> f64 {
    let pairs = outcome.gradients[0].iter().zip(&outcome.gradients[1]).zip(direction);
    pairs.map(|((chosen, rejected), direction)| chosen * direction[0] + rejected * direction[1]).sum()
}

fn picked(values: &[f64], indices: &[usize]) -> Vec<f64> {
    indices.iter().map(|&index| values[index]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 1000, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn gradients_are_central_differences_away_from_kinks(
        objective in any_objective(),
        batch in any_batch(2..5, 5.0),
        direction in prop::array::uniform4(prop::array::uniform2(-1.0..1.0f64)),
    ) {
        let objective = Objective { beta: objective.beta.clamp(1e-3, 1.0), ..objective };
        let difference = |step: f64| {
            let [above, below] = [step, -step].map(|step| moved(&batch, &direction, step).total(&objective));
            (above - below) / (2.0 * step)
        };
        let (wide, narrow) = (difference(2e-5), difference(1e-5));
        let exact = along(&batch.outcome(&objective).unwrap(), &direction);
        // Rounding in a sum of that size, over the step; and the term of third order.
        let noise = 1e-15 * batch.total(&objective).abs() / 1e-5 + 1e-5 * exact.abs().max(1.0);
        // Across a kink or a jump the two differences disagree.
        prop_assume!((wide - narrow).abs() < 10.0 * noise);
        prop_assert!((exact - narrow).abs() < 10.0 * noise, "{exact} instead of {narrow}");
    }

    #[test]
    fn a_masked_batch_is_a_filtered_batch(
        objective in any_objective().prop_filter("batch-coupled", |objective| !objective.is_batch_coupled()),
        batch in any_batch(2..6, 20.0),
        kept in prop::array::uniform5(any::<bool>()),
        always in 0..2usize,
        rubbish in prop::sample::select(vec![f64::NEG_INFINITY, f64::INFINITY, f64::NAN, 1e300, -1e300, 0.0]),
    ) {
        let kept: Vec<bool> = (0..batch.pairs()).map(|i| kept[i] || i == always).collect();
        let indices: Vec<usize> = (0..batch.pairs()).filter(|&i| kept[i]).collect();
        let filtered = batch.select(&indices).outcome(&objective).unwrap();
        let mut masked = batch;
        for i in (0..masked.pairs()).filter(|&i| !kept[i]) {
            masked.policy[i % 2][i] = rubbish;
        }
        let mask = row(&(0..masked.pairs()).map(|i| f64::from(u8::from(kept[i]))).collect::<Vec<_>>()).bool();
        let masked = masked.outcome_of(|policy, reference| {
            let losses = objective.losses(policy, reference)?;
            Ok(losses.zeros_like().mask_where(mask, losses))
        });
        let masked = masked.unwrap();
        prop_assert_eq!(picked(&masked.losses, &indices), filtered.losses);
        for side in 0..2 {
            prop_assert_eq!(picked(&masked.gradients[side], &indices), filtered.gradients[side].clone());
        }
    }

    #[test]
    fn the_order_of_the_pairs_does_not_matter(
        objective in any_objective(),
        batch in any_batch(2..6, 20.0),
        order in Just([0usize, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        let order: Vec<usize> = order.into_iter().filter(|&i| i < batch.pairs()).collect();
        let [plain, permuted] = [batch.clone(), batch.select(&order)].map(|batch| batch.outcome(&objective).unwrap());
        let sorted = matches!(objective.terms[0].loss_type, LossType::Aot | LossType::AotUnpaired);
        let losses = if sorted { plain.losses.clone() } else { picked(&plain.losses, &order) };
        prop_assert!(distance(&permuted.losses, &losses) < 1e-10);
        for side in 0..2 {
            prop_assert!(distance(&permuted.gradients[side], &picked(&plain.gradients[side], &order)) < 1e-10);
        }
    }

    #[test]
    fn losses_and_gradients_are_finite_up_to_log_ratios_of_two_hundred_nats(
        objective in any_objective(),
        batch in any_batch(2..5, 200.0),
    ) {
        prop_assume!(!ratio_margins(&batch).any(|rho| overflows(&objective, rho)));
        let outcome = batch.outcome(&objective).unwrap();
        for values in [&outcome.losses, &outcome.gradients[0], &outcome.gradients[1]] {
            prop_assert!(values.iter().all(|value| value.is_finite()), "{:?}", outcome);
        }
    }

    #[test]
    fn losses_and_gradients_are_finite_at_margins_of_ten_thousand_and_any_beta(
        objective in any_objective(),
        exponent in -6.0..2.0f64,
        batch in any_batch(2..5, 5_000.0),
    ) {
        let objective = Objective { beta: 10f64.powf(exponent), ..objective };
        prop_assume!(!ratio_margins(&batch).any(|rho| overflows(&objective, rho)));
        let outcome = batch.outcome(&objective).unwrap();
        for values in [&outcome.losses, &outcome.gradients[0], &outcome.gradients[1]] {
            prop_assert!(values.iter().all(|value| value.is_finite()), "{:?}", outcome);
        }
    }

    #[test]
    fn a_weighted_sum_is_linear_in_its_weights(
        objective in any_objective(),
        second in any_loss(),
        weights in prop::array::uniform2(-3.0..3.0f64),
        batch in any_batch(2..5, 20.0),
    ) {
        let first = objective.terms[0].loss_type.clone();
        let of = |terms: Vec<Term>| batch.outcome(&Objective { terms, ..objective.clone() }).unwrap();
        let term = |loss_type: &LossType, weight: f64| Term { loss_type: loss_type.clone(), weight };
        let [left, right] = [&first, &second].map(|loss| of(vec![term(loss, 1.0)]));
        let both = of(vec![term(&first, weights[0]), term(&second, weights[1])]);
        let sum = |left: &[f64], right: &[f64]| -> Vec<f64> {
            left.iter().zip(right).map(|(left, right)| weights[0] * left + weights[1] * right).collect()
        };
        let scale = left.losses.iter().chain(&right.losses).fold(1.0f64, |most, loss| most.max(loss.abs()));
        prop_assert!(distance(&both.losses, &sum(&left.losses, &right.losses)) < 1e-12 * scale);
        for side in 0..2 {
            let expected = sum(&left.gradients[side], &right.gradients[side]);
            prop_assert!(distance(&both.gradients[side], &expected) < 1e-12 * scale);
        }
    }
}

/// At a refresh the policy equals its reference: BPO's every first step stands there.
#[test]
fn four_discovered_losses_push_the_wrong_way_at_the_reference() {
    for loss in LossType::ALL {
        let objective = Objective { label_smoothing: 0.1, ..loss.clone().into() };
        let gradients = Batch::of_ratios(&[[0.0, 0.0]; 3]).outcome(&objective).unwrap().gradients;
        // Of the sum of the losses, along chosen up and rejected down.
        let slope: f64 = gradients[0].iter().sum::<f64>() - gradients[1].iter().sum::<f64>();
        assert!(slope != 0.0, "{loss}: no gradient at the reference");
        let wrong = ["discopop", "lrml", "lrml_old", "aql"].contains(&loss.to_string().as_str());
        assert_eq!(slope > 0.0, wrong, "{loss}: slope {slope}");
        let told = objective.slope_at_the_reference(&Device::flex()).unwrap();
        assert_eq!(told > 0.0, wrong, "{loss}: {told}");
    }
}

/// Slopes in ρ of a pair at the reference, β = 0.1: f′(0)·β, and −1/β for IPO.
#[test]
fn the_gradient_at_a_refresh_has_the_slope_of_the_textbook() {
    for (loss, slope) in [("sigmoid", -0.05), ("hinge", -0.1), ("ipo", -10.0), ("discopop", 0.0784), ("aql", 0.075)] {
        let loss: LossType = loss.parse().unwrap();
        let objective = Objective { ipo_length_norm: false, ..loss.clone().into() };
        let gradient = Batch::of_ratios(&[[0.0, 0.0]]).outcome(&objective).unwrap().gradients[0][0];
        assert!((gradient - slope).abs() < 5e-4, "{loss}: {gradient} instead of {slope}");
    }
}
