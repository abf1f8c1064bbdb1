//! `token_logps.json` and `bpo_logits.json`: log-probs of labels under logits, by [`bpo_loss::token_logps`] and
//! autodiff, and by the chunked [`Head`] with the identity for weights: its hidden states are then the logits.
use bpo_loss::{Head, IGNORE_INDEX, LossType, Objective, PairLogps};
use burn::tensor::Tensor;
use serde_json::Value;

use super::{
    Values, all_close,
    arithmetic::{Arithmetic, gradient, host, ints},
    beta, compare, refused,
};
use crate::golden::{Check, numbers};

/// Rows of the head's chunks: few, so that small cases have several.
const CHUNK: usize = 3;

pub fn token_logps(_: &Value, case: &Value, check: &mut Check) -> Result<(), String> {
    let labelled = Labelled::of(case, "logits")?;
    compare(check, case, all_close, |arithmetic| {
        let mut values = labelled.values(arithmetic);
        values.extend(labelled.head_values(arithmetic)?);
        Ok(defined(values, case, |what| what.contains("grad")))
    })
}

pub fn bpo(_: &Value, case: &Value, check: &mut Check) -> Result<(), String> {
    let (policy, reference) = (Labelled::of(case, "policy_logits")?, Labelled::of(case, "ref_logits")?);
    compare(check, case, all_close, |arithmetic| {
        let mut values = bpo_values(case, &policy, &reference, arithmetic)?;
        values.extend(bpo_head_values(case, &policy, &reference, arithmetic)?);
        Ok(defined(values, case, |_| true))
    })
}

/// Where the authors' code divides 0 by 0, the mean over a row of which no label counts, the library counts a length
/// of 1 and stays finite. That is right where the file has NaN.
fn defined(mut values: Values, case: &Value, finite: impl Fn(&str) -> bool) -> Values {
    for (what, values) in values.iter_mut().filter(|(what, _)| finite(what)) {
        let expected = numbers(&case["expected"][super::key(what)]);
        for (value, expected) in values.iter_mut().zip(expected) {
            if expected.is_nan() && value.is_finite() {
                *value = f64::NAN;
            }
        }
    }
    values
}

/// Logits `[batch, time, vocab]` with labels `[batch, time]`, flattened.
struct Labelled {
    logits: Vec<f64>,
    labels: Vec<f64>,
    shape: [usize; 3],
}

impl Labelled {
    fn of(case: &Value, key: &str) -> Result<Self, String> {
        let inputs = &case["inputs"];
        let width = |value: &Value| value.as_array().map_or(0, Vec::len);
        let logits = &inputs[key];
        let shape = [width(logits), width(&logits[0]), width(&logits[0][0])];
        let labels = numbers(&inputs["labels"]);
        if labels.len() != shape[0] * shape[1] {
            return Err(format!("{} labels for logits {shape:?}", labels.len()));
        }
        Ok(Self { logits: numbers(logits), labels, shape })
    }

    fn leaf(&self, arithmetic: Arithmetic) -> Tensor<3> {
        arithmetic.leaf(&self.logits, self.shape)
    }

    /// `[batch, time − 1]` log-probs and how many of each row count.
    fn score(&self, logits: Tensor<3>, arithmetic: Arithmetic) -> (Tensor<2>, Tensor<1>) {
        let [batch, time, _] = self.shape;
        let (logps, counts) = bpo_loss::token_logps(logits, ints(&self.labels, [batch, time]));
        (logps, arithmetic.row(&host(counts.float())))
    }

    fn values(&self, arithmetic: Arithmetic) -> Values {
        let (tokens, counts) = self.score(self.leaf(arithmetic), arithmetic);
        let sums = row_sums(tokens.clone());
        let lengths = counts.clone().clamp_min(1.0);
        let slope = |factors: Tensor<1>| {
            if self.shape[1] < 2 {
                return vec![0.0; self.logits.len()]; // nothing is predicted
            }
            let logits = self.leaf(arithmetic);
            let (tokens, _) = self.score(logits.clone(), arithmetic);
            gradient(&logits, &(row_sums(tokens) * factors).sum().backward())
        };
        vec![
            ("token_logps_shifted", host(tokens)),
            ("num_tokens", host(counts.clone())),
            ("sum_logps", host(sums.clone())),
            ("mean_logps", host(sums.clone() / counts)),
            ("mean_logps_clamped", host(sums / lengths.clone())),
            ("grad_sum_logps_wrt_logits", slope(lengths.ones_like())),
            ("grad_sum_of_valid_mean_logps_wrt_logits", slope(lengths.recip())),
        ]
    }

    fn head_values(&self, arithmetic: Arithmetic) -> Result<Values, String> {
        let scored = self.by_head(arithmetic)?;
        let means: Vec<f64> = scored.counts.iter().map(|count| 1.0 / count.max(1.0)).collect();
        Ok(vec![
            ("head token_logps_shifted", scored.logps.clone()),
            ("head sum_logps", scored.sums()),
            ("head grad_sum_logps_wrt_logits", scored.gradient(&vec![1.0; self.shape[0]])?),
            ("head grad_sum_of_valid_mean_logps_wrt_logits", scored.gradient(&means)?),
        ])
    }

    /// Every label that counts, scored by an identity head.
    fn by_head(&self, arithmetic: Arithmetic) -> Result<HeadScores<'_>, String> {
        let [batch, time, vocab] = self.shape;
        let counts = |position: usize| self.labels[position + 1] as i64 != IGNORE_INDEX;
        let last = |position: &usize| (position + 1).is_multiple_of(time);
        let positions: Vec<usize> = (0..batch * time).filter(|p| !last(p) && counts(*p)).collect();
        let targets: Vec<u32> = positions.iter().map(|&position| self.labels[position + 1] as u32).collect();
        let hidden: Vec<f64> =
            positions.iter().flat_map(|position| &self.logits[position * vocab..][..vocab]).copied().collect();
        let hidden = arithmetic.tensor(&hidden, [positions.len(), vocab]);
        let identity = Tensor::<2>::eye(vocab, &hidden.device()).cast(hidden.dtype());
        let head = Head::new(identity).with_chunk(CHUNK);
        let scored = head.score_with_slopes(&hidden, &targets).map_err(refused)?;
        let mut logps = vec![0.0; batch * (time - 1)];
        for (&position, logp) in positions.iter().zip(host(scored.logps)) {
            logps[position - position / time] = logp;
        }
        let slopes = scored.slopes.map(host).unwrap_or_default();
        let mut row_counts = vec![0.0; batch];
        positions.iter().for_each(|position| row_counts[position / time] += 1.0);
        Ok(HeadScores {
            labelled: self,
            arithmetic,
            head,
            hidden,
            targets,
            positions,
            logps,
            slopes,
            counts: row_counts,
        })
    }
}

struct HeadScores<'a> {
    labelled: &'a Labelled,
    arithmetic: Arithmetic,
    head: Head,
    hidden: Tensor<2>,
    targets: Vec<u32>,
    /// Flat `[batch, time]` indices of the hidden states.
    positions: Vec<usize>,
    /// `[batch, time − 1]`.
    logps: Vec<f64>,
    /// `[positions, vocab]`.
    slopes: Vec<f64>,
    /// `[batch]`.
    counts: Vec<f64>,
}

impl HeadScores<'_> {
    fn sums(&self) -> Vec<f64> {
        let [batch, time, _] = self.labelled.shape;
        (0..batch).map(|row| self.logps[row * (time - 1)..][..time - 1].iter().sum()).collect()
    }

    /// Gradient in the logits of `Σ_rows factor·Σ_tokens log p`: by slopes, in f32 by [`Head::gradients`].
    fn gradient(&self, factors: &[f64]) -> Result<Vec<f64>, String> {
        let [batch, time, vocab] = self.labelled.shape;
        let of_token: Vec<f64> = self.positions.iter().map(|position| factors[position / time]).collect();
        let rows: Vec<f64> = if self.arithmetic.is_double() {
            let scaled = self.slopes.chunks(vocab).zip(&of_token);
            scaled.flat_map(|(row, factor)| row.iter().map(move |slope| slope * factor)).collect()
        } else {
            let coefficients: Vec<f32> = of_token.iter().map(|&factor| factor as f32).collect();
            host(self.head.gradients(&self.hidden, &self.targets, &coefficients).map_err(refused)?.hidden)
        };
        let mut gradient = vec![0.0; batch * time * vocab];
        for (position, row) in self.positions.iter().zip(rows.chunks(vocab)) {
            gradient[position * vocab..][..vocab].copy_from_slice(row);
        }
        Ok(gradient)
    }
}

fn bpo_values(case: &Value, policy: &Labelled, reference: &Labelled, arithmetic: Arithmetic) -> Result<Values, String> {
    let logits = policy.leaf(arithmetic);
    let of = |labelled: &Labelled, logits: Tensor<3>| {
        let (tokens, counts) = labelled.score(logits, arithmetic);
        scores(case, row_sums(tokens), counts)
    };
    let policy = of(policy, logits.clone());
    let reference = of(reference, reference.leaf(arithmetic)).detach();
    let (losses, total) = total_loss(case, &policy, &reference)?;
    let gradients = total.clone().backward();
    let ([policy_chosen, policy_rejected], [ref_chosen, ref_rejected]) = (halves(&policy), halves(&reference));
    Ok(vec![
        ("policy_chosen_logps", host(policy_chosen)),
        ("policy_rejected_logps", host(policy_rejected)),
        ("ref_chosen_logps", host(ref_chosen)),
        ("ref_rejected_logps", host(ref_rejected)),
        ("losses", host(losses)),
        ("total_loss", host(total)),
        ("grad_policy_logits", gradient(&logits, &gradients)),
    ])
}

/// The same with the head: the losses' gradients in the summed log-probs, spread over the tokens.
fn bpo_head_values(
    case: &Value,
    policy: &Labelled,
    reference: &Labelled,
    arithmetic: Arithmetic,
) -> Result<Values, String> {
    let (of_policy, of_reference) = (policy.by_head(arithmetic)?, reference.by_head(arithmetic)?);
    let sums = arithmetic.leaf_row(&of_policy.sums());
    let policy = scores(case, sums.clone(), arithmetic.row(&of_policy.counts));
    let reference = scores(case, arithmetic.row(&of_reference.sums()), arithmetic.row(&of_reference.counts));
    let (losses, total) = total_loss(case, &policy, &reference)?;
    let factors = gradient(&sums, &total.clone().backward());
    Ok(vec![
        ("head losses", host(losses)),
        ("head total_loss", host(total)),
        ("head grad_policy_logits", of_policy.gradient(&factors)?),
    ])
}

/// What the loss reads of each row: summed or, as the authors' IPO, averaged log-probs; `[2·pairs]`.
fn scores(case: &Value, sums: Tensor<1>, counts: Tensor<1>) -> Tensor<1> {
    match case["hyper"]["average_log_prob"].as_bool() {
        Some(true) => sums / counts.clamp_min(1.0),
        _ => sums,
    }
}

/// Losses `[pairs]` and their sum over the pairs of an update.
fn total_loss(case: &Value, policy: &Tensor<1>, reference: &Tensor<1>) -> Result<(Tensor<1>, Tensor<1>), String> {
    let loss: LossType = case["hyper"]["loss"].as_str().ok_or("no hyper.loss")?.parse().map_err(refused)?;
    let objective = Objective { beta: beta(case)?, ipo_length_norm: false, ..loss.into() };
    let pairs = |scores: &Tensor<1>| {
        let [chosen, rejected] = halves(scores);
        PairLogps::new(chosen, rejected)
    };
    let losses = objective.losses(&pairs(policy).map_err(refused)?, &pairs(reference).map_err(refused)?);
    let losses = losses.map_err(refused)?;
    let accumulated = case["hyper"]["accumulation_pairs"].as_f64().ok_or("no hyper.accumulation_pairs")?;
    let total = losses.clone().sum() * accumulated.recip();
    Ok((losses, total))
}

/// Chosen and rejected rows.
fn halves(scores: &Tensor<1>) -> [Tensor<1>; 2] {
    let pairs = scores.dims()[0] / 2;
    [scores.clone().narrow(0, 0, pairs), scores.clone().narrow(0, pairs, pairs)]
}

/// `[batch, time]` to `[batch]`.
fn row_sums(logps: Tensor<2>) -> Tensor<1> {
    logps.sum_dim(1).squeeze_dim(1)
}
