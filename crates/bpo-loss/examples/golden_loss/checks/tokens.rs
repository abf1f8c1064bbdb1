//! `trl_token_level.json`: SFT, length-desensitised and weighted losses of per-token log-probs.
use bpo_loss::{PairLogps, ld_token_weights, wpo_weight};
use burn::tensor::Tensor;
use serde_json::Value;

use super::{
    Values, all_close,
    arithmetic::{Arithmetic, gradient, host},
    compare, hyper, losses, refused, rows,
};
use crate::golden::Check;

pub fn check(_: &Value, case: &Value, check: &mut Check) -> Result<(), String> {
    compare(check, case, all_close, |arithmetic| evaluate(case, arithmetic))
}

fn evaluate(case: &Value, arithmetic: Arithmetic) -> Result<Values, String> {
    let [chosen, rejected] = [rows(case, "chosen_token_logps")?, rows(case, "rejected_token_logps")?];
    let ld_alpha = hyper(case, "ld_alpha").unwrap_or(1.0);
    let (of_chosen, of_rejected) =
        (Padding::of(&chosen, &rejected, ld_alpha), Padding::of(&rejected, &chosen, ld_alpha));
    let [chosen_leaf, rejected_leaf] = [of_chosen.leaf(&chosen, arithmetic), of_rejected.leaf(&rejected, arithmetic)];
    let lengths = |padding: &Padding| arithmetic.row(&padding.lengths.iter().map(|&n| n as f64).collect::<Vec<_>>());
    let policy = PairLogps::new(
        of_chosen.sums(chosen_leaf.clone(), arithmetic),
        of_rejected.sums(rejected_leaf.clone(), arithmetic),
    )
    .and_then(|policy| policy.with_lengths(lengths(&of_chosen), lengths(&of_rejected)))
    .map_err(refused)?;
    let constant = |padding: &Padding, key: &str| -> Result<Tensor<1>, String> {
        Ok(padding.sums(padding.leaf(&rows(case, key)?, arithmetic), arithmetic).detach())
    };
    let reference = PairLogps::new(
        constant(&of_chosen, "ref_chosen_token_logps")?,
        constant(&of_rejected, "ref_rejected_token_logps")?,
    )
    .map_err(refused)?;
    let loss = case["loss"].as_str().ok_or("no \"loss\"")?;
    let mut unreduced = losses::objective(loss, case)?.losses(&policy, &reference).map_err(refused)?;
    if case["hyper"]["use_weighting"] == Value::Bool(true) {
        unreduced = unreduced * arithmetic.row(&weights(case, &chosen, &rejected)?);
    }
    let mean = unreduced.mean();
    let gradients = mean.clone().backward();
    Ok(vec![
        ("mean_loss", host(mean)),
        ("grad_chosen_token_logps", of_chosen.unpadded(&gradient(&chosen_leaf, &gradients))),
        ("grad_rejected_token_logps", of_rejected.unpadded(&gradient(&rejected_leaf, &gradients))),
    ])
}

/// WPO's weight of every pair.
fn weights(case: &Value, chosen: &[Vec<f64>], rejected: &[Vec<f64>]) -> Result<Vec<f64>, String> {
    let [of_chosen, of_rejected] = [rows(case, "log_sum_sq_probs_chosen")?, rows(case, "log_sum_sq_probs_rejected")?];
    let weight =
        |pair: usize| wpo_weight(&chosen[pair], &of_chosen[pair]) * wpo_weight(&rejected[pair], &of_rejected[pair]);
    Ok((0..chosen.len()).map(weight).collect())
}

/// Completions of any lengths as one `[pairs, longest]`.
struct Padding {
    lengths: Vec<usize>,
    longest: usize,
    /// `[pairs, longest]`, what each token counts; 0 on padding.
    weights: Vec<f64>,
}

impl Padding {
    fn of(tokens: &[Vec<f64>], partners: &[Vec<f64>], ld_alpha: f64) -> Self {
        let lengths: Vec<usize> = tokens.iter().map(Vec::len).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0).max(1);
        let row = |(tokens, partner): (&Vec<f64>, &Vec<f64>)| {
            padded(ld_token_weights(tokens.len(), partner.len(), ld_alpha), longest)
        };
        let weights = tokens.iter().zip(partners).flat_map(row).collect();
        Self { lengths, longest, weights }
    }

    fn leaf(&self, tokens: &[Vec<f64>], arithmetic: Arithmetic) -> Tensor<2> {
        let values: Vec<f64> = tokens.iter().flat_map(|row| padded(row.iter().copied(), self.longest)).collect();
        arithmetic.leaf(&values, [self.lengths.len(), self.longest])
    }

    /// Weighted sums over the tokens, `[pairs]`.
    fn sums(&self, tokens: Tensor<2>, arithmetic: Arithmetic) -> Tensor<1> {
        let weights = arithmetic.tensor(&self.weights, [self.lengths.len(), self.longest]);
        (tokens * weights).sum_dim(1).squeeze_dim(1)
    }

    fn unpadded(&self, values: &[f64]) -> Vec<f64> {
        let rows = values.chunks(self.longest).zip(&self.lengths);
        rows.flat_map(|(row, &length)| row[..length].to_vec()).collect()
    }
}

fn padded(values: impl Iterator<Item = f64>, length: usize) -> Vec<f64> {
    values.chain(std::iter::repeat(0.0)).take(length).collect()
}
