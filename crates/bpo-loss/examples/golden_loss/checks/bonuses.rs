//! `selm.json` and `xpo.json`: DPO with a bonus that seeks what the reference finds unlikely.
use bpo_loss::{LossType, Objective, PairLogps, dpo, selm_bonus, xpo_bonus};
use burn::tensor::Tensor;
use serde_json::Value;

use super::{
    Values, all_close,
    arithmetic::{Arithmetic, flags, gradient, host},
    beta, compare, hyper, input, losses, refused, rows,
};
use crate::golden::Check;

pub fn selm(_: &Value, case: &Value, check: &mut Check) -> Result<(), String> {
    compare(check, case, all_close, |arithmetic| evaluate_selm(case, arithmetic))
}

fn evaluate_selm(case: &Value, arithmetic: Arithmetic) -> Result<Values, String> {
    let (beta, alpha) = (beta(case)?, alpha(case)?);
    let (policy, reference) = losses::pairs(case, arithmetic)?;
    let response = arithmetic.leaf_row(&input(case, "policy_response_logps"));
    let of_reference = arithmetic.row(&input(case, "ref_response_logps"));
    let bonus = selm_bonus(response.clone(), of_reference, beta, alpha).map_err(refused)?;
    let sum = dpo(&policy, &reference, beta, 0.0).map_err(refused)? + bonus;
    let (mut values, gradients) = losses::values(sum, &policy, &reference, beta);
    values.push(("grad_policy_response_logps", gradient(&response, &gradients)));
    Ok(values)
}

pub fn xpo(_: &Value, case: &Value, check: &mut Check) -> Result<(), String> {
    compare(check, case, all_close, |arithmetic| evaluate_xpo(case, arithmetic))
}

fn evaluate_xpo(case: &Value, arithmetic: Arithmetic) -> Result<Values, String> {
    let (beta, alpha) = (beta(case)?, alpha(case)?);
    let tokens = |key: &str| -> Result<Tensor<2>, String> {
        let rows = rows(case, key)?;
        let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
        Ok(arithmetic.leaf(&rows.concat(), shape))
    };
    let (model, of_reference) = (tokens("model_logps_on_model_completion")?, tokens("model_logps_on_ref_completion")?);
    let chosen: Vec<bool> = case["inputs"]["model_completion_is_chosen"]
        .as_array()
        .ok_or("no inputs.model_completion_is_chosen")?
        .iter()
        .map(|flag| flag.as_bool().unwrap_or_default())
        .collect();
    let policy = ranked(&chosen, model.clone(), of_reference.clone())?;
    let reference = ranked(&chosen, tokens("ref_logps_on_model_completion")?, tokens("ref_logps_on_ref_completion")?)?;
    let loss_type: LossType = case["hyper"]["loss_type"].as_str().unwrap_or("sigmoid").parse().map_err(refused)?;
    let objective = Objective { beta, ipo_length_norm: false, ..loss_type.into() };
    let preference = objective.losses(&policy, &reference).map_err(refused)?;
    let bonus = xpo_bonus(sums(of_reference.clone()), alpha);
    let mean = (preference.clone() + bonus.clone()).mean();
    let gradients = mean.clone().backward();
    Ok(vec![
        ("dpo_losses", host(preference)),
        ("xpo_losses", host(bonus)),
        ("mean_loss", host(mean)),
        ("grad_model_logps_on_model_completion", gradient(&model, &gradients)),
        ("grad_model_logps_on_ref_completion", gradient(&of_reference, &gradients)),
    ])
}

/// The model's completion on the chosen side where `chosen`, else on the other.
fn ranked(chosen: &[bool], of_model: Tensor<2>, of_reference: Tensor<2>) -> Result<PairLogps, String> {
    let (first, second) = (sums(of_model), sums(of_reference));
    let mask = flags(chosen);
    let better = second.clone().mask_where(mask.clone(), first.clone());
    PairLogps::new(better, first.mask_where(mask, second)).map_err(refused)
}

/// `[rows, tokens]` to `[rows]`.
fn sums(logps: Tensor<2>) -> Tensor<1> {
    logps.sum_dim(1).squeeze_dim(1)
}

fn alpha(case: &Value) -> Result<f64, String> {
    hyper(case, "alpha").ok_or_else(|| "no hyper.alpha".to_string())
}
