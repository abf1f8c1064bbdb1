//! `loss_*.json` and `f_divergence.json`: losses of summed log-probs.
use bpo_loss::{Error, FDivergence, LossType, Objective, PairLogps, implicit_rewards, kto_pair, optune_wdpo};
use burn::tensor::Tensor;
use serde_json::Value;

use super::{
    Single, Values,
    arithmetic::{Arithmetic, gradient, host},
    beta, compare, hyper, input, refused,
};
use crate::golden::{Check, numbers};

/// Largest exponent that f32 is held to the tolerance at.
const LARGEST_EXPONENT: f64 = 80.0;

pub fn check(golden: &Value, case: &Value, check: &mut Check) -> Result<(), String> {
    let loss = case["loss"].as_str().or(golden["loss"].as_str()).ok_or("no \"loss\"")?;
    let single = singles(loss, case)?;
    compare(check, case, single, |arithmetic| evaluate(loss, case, arithmetic))
}

/// The pairs of a case: leaves for the policy, constants for the reference.
pub(super) fn pairs(case: &Value, arithmetic: Arithmetic) -> Result<(PairLogps, PairLogps), String> {
    let leaf = |key: &str| arithmetic.leaf_row(&input(case, key));
    let constant = |key: &str| arithmetic.row(&input(case, key));
    let mut policy = PairLogps::new(leaf("policy_chosen_logps"), leaf("policy_rejected_logps")).map_err(refused)?;
    if case["inputs"].get("chosen_lengths").is_some() {
        policy = policy.with_lengths(constant("chosen_lengths"), constant("rejected_lengths")).map_err(refused)?;
    }
    let reference = PairLogps::new(constant("ref_chosen_logps"), constant("ref_rejected_logps")).map_err(refused)?;
    Ok((policy, reference))
}

/// Losses, their mean, its gradients, and the implicit rewards.
pub(super) fn values(
    losses: Tensor<1>,
    policy: &PairLogps,
    reference: &PairLogps,
    beta: f64,
) -> (Values, burn::tensor::Gradients) {
    let mean = losses.clone().mean();
    let gradients = mean.clone().backward();
    let (chosen, rejected) = implicit_rewards(policy, reference, beta);
    let values = vec![
        ("losses", host(losses)),
        ("mean_loss", host(mean)),
        ("grad_policy_chosen_logps", gradient(&policy.chosen, &gradients)),
        ("grad_policy_rejected_logps", gradient(&policy.rejected, &gradients)),
        ("chosen_rewards", host(chosen)),
        ("rejected_rewards", host(rejected)),
    ];
    (values, gradients)
}

fn evaluate(loss: &str, case: &Value, arithmetic: Arithmetic) -> Result<Values, String> {
    let beta = beta(case)?;
    let (policy, reference) = pairs(case, arithmetic)?;
    match losses(loss, case, &policy, &reference, arithmetic)? {
        Ok(losses) => Ok(values(losses, &policy, &reference, beta).0),
        // The reference code divides by zero here; the library says so.
        Err(Error::BatchTooSmall { .. }) => {
            let undefined = policy.chosen.clone() * f64::NAN;
            let (mut values, _) = values(undefined, &policy, &reference, beta);
            values.iter_mut().filter(|(what, _)| !what.ends_with("rewards")).for_each(|(_, v)| v.fill(f64::NAN));
            Ok(values)
        }
        Err(error) => Err(refused(error)),
    }
}

fn losses(
    loss: &str,
    case: &Value,
    policy: &PairLogps,
    reference: &PairLogps,
    arithmetic: Arithmetic,
) -> Result<Result<Tensor<1>, Error>, String> {
    let beta = beta(case)?;
    Ok(match loss {
        "kto_pair" => kto_pair(policy, reference, beta),
        "optune_wdpo" => {
            let gaps = arithmetic.row(&numbers(&case["hyper"]["reward_gap"]));
            optune_wdpo(policy, reference, beta, gaps, hyper(case, "beta2").ok_or("no hyper.beta2")?)
        }
        _ => objective(loss, case)?.losses(policy, reference),
    })
}

/// The objective that a golden file's loss name and hyper-parameters mean.
pub(super) fn objective(loss: &str, case: &Value) -> Result<Objective, String> {
    let (loss_type, ipo_length_norm) = match loss {
        "ipo_sum" => (LossType::Ipo, false),
        "bco_pair_delta" => (LossType::BcoPair, true),
        "sigmoid_alpha_old" => (LossType::Sigmoid, true),
        name => (name.parse().map_err(refused)?, true),
    };
    let defaults = Objective::from(loss_type);
    Ok(Objective {
        beta: beta(case)?,
        ipo_length_norm,
        label_smoothing: hyper(case, "label_smoothing").unwrap_or(defaults.label_smoothing),
        discopop_tau: hyper(case, "tau").unwrap_or(defaults.discopop_tau),
        bco_delta: hyper(case, "delta").unwrap_or(defaults.bco_delta),
        divergence: divergence(case)?,
        ..defaults
    })
}

fn divergence(case: &Value) -> Result<FDivergence, String> {
    match case["hyper"]["f_divergence_type"].as_str() {
        None | Some("reverse_kl") => Ok(FDivergence::ReverseKl),
        Some("forward_kl") => Ok(FDivergence::ForwardKl),
        Some("js_divergence") => Ok(FDivergence::JsDivergence),
        Some("alpha_divergence") => {
            // TRL up to 0.24 counts α from the other end; 0.5 is TRL's default now.
            let old = hyper(case, "alpha_old").map(|alpha| 1.0 - alpha);
            let coefficient = old.or(hyper(case, "f_alpha_divergence_coef")).unwrap_or(0.5);
            Ok(FDivergence::AlphaDivergence { coefficient })
        }
        Some(other) => Err(format!("unknown f_divergence_type {other}")),
    }
}

/// How far f32 is held to each value: pair by pair where pairs do not mix.
fn singles(loss: &str, case: &Value) -> Result<impl Fn(&str, usize) -> Single + use<>, String> {
    let beta = beta(case)?;
    let [pc, pr, rc, rr] = ["policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps"]
        .map(|key| input(case, key));
    // The scores of an f-divergence are exponentials of the log-ratios themselves.
    let factor = if divergence(case)? == FDivergence::ReverseKl { 0.0 } else { 1.0 };
    let near = |i: usize| {
        let (chosen, rejected) = (pc[i] - rc[i], pr[i] - rr[i]);
        let exponents = [beta * (chosen - rejected), factor * chosen, factor * rejected];
        exponents.iter().all(|exponent| exponent.abs() < LARGEST_EXPONENT)
    };
    let near: Vec<bool> = (0..pc.len()).map(near).collect();
    let all_near = near.iter().all(|&near| near);
    let coupled = loss.parse::<LossType>().is_ok_and(|loss| loss.is_batch_coupled());
    let finite = case["finite_in_float32"].as_bool().unwrap_or(true);
    Ok(move |what: &str, index: usize| {
        let of_one_pair = !coupled && what != "mean_loss";
        match (finite, if of_one_pair { near[index % near.len()] } else { all_near }) {
            (false, _) => Single::Free,
            (true, true) => Single::Close,
            (true, false) => Single::Finite,
        }
    })
}
