//! Every loss at the reference, and at one other point worked out by hand: what still catches a broken loss where the
//! golden files are not at hand. Log-ratios are (3, −1): ρ = 4; β = ½, so l = 2.
use bpo_loss::{Form, GpoFunction, LossType, Objective, kto_pair, optune_wdpo, selm_bonus, xpo_bonus};

use crate::pairs::{Batch, distance, host, row};

const BETA: f64 = 0.5;
const SMOOTHING: f64 = 0.1;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    x.exp().ln_1p()
}

/// The loss of a batch of `pairs` pairs, each of log-ratios `c` and `r`.
fn expected(loss: &LossType, c: f64, r: f64, chosen: f64) -> f64 {
    let (rho, target) = (c - r, 1.0 / (2.0 * BETA));
    let (a, b, l) = (BETA * c, BETA * r, BETA * rho);
    let (q, e) = (sigmoid(l), SMOOTHING);
    let statistic = |form: &Form| if *form == Form::Old { rho } else { l / 0.05 };
    let blend = |w: f64| w * softplus(-l) + (1.0 - w) * (1.0 - l).max(0.0);
    let modulated = |z: f64| sigmoid(-z) * softplus(-l) + sigmoid(z) * (-l).exp();
    match loss {
        LossType::Sigmoid | LossType::Aot | LossType::AotUnpaired => (1.0 - e) * softplus(-l) + e * softplus(l),
        LossType::Hinge | LossType::Gpo(GpoFunction::Hinge) => (1.0 - l).max(0.0),
        LossType::Ipo => (c / 20.0 - r / 25.0 - target).powi(2),
        LossType::SigmoidNorm => softplus(-BETA * (c / 20.0 - r / 25.0)),
        LossType::ExoPair => q * (q / (1.0 - e)).ln() + (1.0 - q) * ((1.0 - q) / e).ln(),
        LossType::NcaPair => softplus(-a) + 0.5 * softplus(a) + 0.5 * softplus(b),
        LossType::Robust => ((1.0 - e) * softplus(-l) - e * softplus(l)) / (1.0 - 2.0 * e),
        LossType::BcoPair => softplus(-a) + softplus(b),
        LossType::SppoHard => (c - target).powi(2) + (r + target).powi(2),
        LossType::ApoZero => 1.0 - sigmoid(a) + sigmoid(b),
        LossType::ApoDown => sigmoid(a) + 1.0 - sigmoid(a - b),
        LossType::KtoPair => 0.5 * (sigmoid(BETA * (r.max(0.0) - c)) + sigmoid(BETA * (r - c.max(0.0)))),
        LossType::Sft => -chosen / 20.0,
        LossType::Discopop => modulated(l / 0.05),
        LossType::Lrml(form) => modulated(statistic(form)),
        LossType::Aql(form) => {
            let z = statistic(form);
            let q = 0.5 + 0.01 * (sigmoid(z) - 0.5);
            blend(sigmoid((q - z) * if *form == Form::Old { BETA } else { 1.0 }))
        }
        LossType::Aqfl(form) => {
            // Equal pairs: no deviation.
            let z = statistic(form);
            blend(sigmoid(0.1 * (z - 0.05 * sigmoid(z)).abs()))
        }
        LossType::Padll => 0.9 * softplus(-l),
        LossType::Dbaql(_) => 0.5 * softplus(-l / 0.9) + 0.5 * (-0.9 * l).exp(),
        LossType::Cell => 0.5 * (-l).exp() + 0.5 * softplus(-l),
        // The policy ranks every pair of these batches right.
        LossType::Pfl(Form::Current) => 0.5 * softplus(-l),
        LossType::Pfl(Form::Old) => 0.5 * softplus(-rho),
        LossType::Gpo(GpoFunction::Logistic) => softplus(-l),
        LossType::Gpo(GpoFunction::Squared) => (l - 1.0).powi(2),
        LossType::Gpo(GpoFunction::Exponential) => (-l).exp(),
        LossType::Gpo(GpoFunction::TruncatedQuadratic) => (1.0 - l).max(0.0).powi(2),
        LossType::Gpo(GpoFunction::Savage) => (1.0 + l.exp()).powi(-2),
        other => panic!("{other} has no closed form here: write one"),
    }
}

#[test]
fn every_loss_has_its_closed_form_at_the_reference_and_away_from_it() {
    for loss in LossType::ALL {
        for [c, r] in [[0.0, 0.0], [3.0, -1.0]] {
            let objective = Objective { beta: BETA, label_smoothing: SMOOTHING, ..loss.clone().into() };
            let outcome = Batch::of_ratios(&[[c, r]; 2]).outcome(&objective).unwrap();
            let expected = expected(&loss, c, r, c - 40.0);
            assert!(distance(&outcome.losses, &[expected; 2]) < 1e-14, "{loss}: {:?}, not {expected}", outcome.losses);
        }
    }
}

#[test]
fn kto_pair_gives_the_chosen_losses_and_then_the_rejected_ones() {
    let (policy, reference) = Batch::of_ratios(&[[1.0, 0.0], [3.0, -2.0]]).logps();
    let losses = host(kto_pair(&policy, &reference, BETA).unwrap());
    // Mean log-ratios 2 and −1, the latter clamped to 0.
    let expected = [sigmoid(-0.5), sigmoid(-1.5), sigmoid(BETA * -2.0), sigmoid(BETA * -4.0)];
    assert!(distance(&losses, &expected) < 1e-15);
}

#[test]
fn the_bonuses_and_the_gap_weights_are_what_their_formulas_say() {
    let selm = selm_bonus(row(&[-10.0]), row(&[-13.0]), BETA, 0.01).unwrap();
    assert!(distance(&host(selm), &[0.01 * BETA * 3.0]) < 1e-15);
    assert!(distance(&host(xpo_bonus(row(&[-10.0]), 0.01)), &[-0.1]) < 1e-15);
    let (policy, reference) = Batch::of_ratios(&[[3.0, -1.0]]).logps();
    let weighted = optune_wdpo(&policy, &reference, BETA, row(&[4.0]), 0.25).unwrap();
    assert!(distance(&host(weighted), &[sigmoid(1.0) * softplus(-2.0)]) < 1e-15);
}

#[test]
fn an_impossible_rejected_completion_costs_dpo_nothing_and_moves_nothing() {
    let outcome = Batch::of_ratios(&[[0.0, f64::NEG_INFINITY]]).outcome(&Objective::default()).unwrap();
    assert_eq!((outcome.losses, outcome.gradients), (vec![0.0], [vec![0.0], vec![0.0]]));
}
