//! Whole BPO steps of an ensemble of LoRA branches on a linear language model: `logits_t = E[id_t] (W + s·B·A)ᵀ`.
//!
//! Every case is walked through from its first weights to its last in f64, and step by step in training's own f32.
use bpo_loss::{IGNORE_INDEX, LossType, Objective, PairLogps, sequence_logps};
use bpo_model::{AdapterMerge, LowRank, Parameters, merge_deltas};
use bpo_train::{AdamW, AdamWConfig, Gradients, LearningRate, LrScheduler, RefreshSchedule};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use serde_json::Value;

use crate::golden::{Check, cases, name, numbers};

pub fn check(golden: &Value, found: &mut Check) -> Result<(), String> {
    for case in cases(golden)? {
        found.case();
        for precision in [Precision(DType::F64), Precision(DType::F32)] {
            Walk::new(case, precision)?.check(found)?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Precision(DType);

impl Precision {
    fn tolerance(self) -> f64 {
        if self.0 == DType::F64 { 1e-10 } else { 1e-4 }
    }

    fn name(self) -> &'static str {
        if self.0 == DType::F64 { "f64" } else { "f32" }
    }

    fn tensor<const D: usize>(self, values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), (&Device::flex(), self.0))
    }

    fn matrix(self, value: &Value) -> Tensor<2> {
        let (rows, values) = (value.as_array().map_or(0, Vec::len), numbers(value));
        let columns = values.len() / rows.max(1);
        self.tensor(values, [rows, columns])
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.try_into_vec_as().unwrap()
}

/// Chosen and rejected sequences of one step's pairs; rows `0..pairs` are the chosen ones.
struct Batch {
    /// `[2 · pairs · time, width]`, E at the input ids.
    embedded: Tensor<2>,
    /// `[2 · pairs, time]`.
    labels: Tensor<2, Int>,
    /// `[2 · pairs]`, labelled tokens.
    lengths: Tensor<1>,
}

impl Batch {
    fn of(inputs: &Value, step: usize, precision: Precision) -> Self {
        let (embedding, data) = (precision.matrix(&inputs["init"]["E"]), &inputs["data"][step]);
        let rows = data["labels"].as_array().map_or(0, Vec::len);
        let (ids, labels) = (integers(&data["input_ids"]), integers(&data["labels"]));
        let shape = [rows, labels.len() / rows.max(1)];
        let labelled = |row: &[i64]| row.iter().skip(1).filter(|&&label| label != IGNORE_INDEX).count() as f64;
        let lengths = labels.chunks(shape[1]).map(labelled).collect();
        let count = ids.len();
        let ids: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [count]), &Device::flex());
        Self {
            embedded: embedding.select(0, ids),
            labels: Tensor::from_data(TensorData::new(labels, shape), &Device::flex()),
            lengths: precision.tensor(lengths, [rows]),
        }
    }

    /// Summed log-probs under `weight` `[vocab, width]`.
    fn logps(&self, weight: Tensor<2>) -> PairLogps {
        let ([rows, time], vocab) = (self.labels.dims(), weight.dims()[0]);
        let logits = self.embedded.clone().matmul(weight.transpose()).reshape([rows, time, vocab]);
        let [chosen, rejected] = halves(sequence_logps(logits, self.labels.clone()));
        let [chosen_lengths, rejected_lengths] = halves(self.lengths.clone());
        PairLogps::new(chosen, rejected).and_then(|logps| logps.with_lengths(chosen_lengths, rejected_lengths)).unwrap()
    }

    /// Log-probs as the files list them: averaged over the tokens where the loss is.
    fn listed(&self, logps: &PairLogps, objective: &Objective) -> [Vec<f64>; 2] {
        let [chosen, rejected] = halves(self.lengths.clone());
        let sides = [(&logps.chosen, chosen), (&logps.rejected, rejected)];
        let is_averaged = objective.terms.iter().any(|term| term.loss_type == LossType::Ipo);
        sides.map(|(logps, lengths)| match is_averaged {
            true => read(logps.clone() / lengths),
            false => read(logps.clone()),
        })
    }
}

fn integers(value: &Value) -> Vec<i64> {
    numbers(value).into_iter().map(|number| number as i64).collect()
}

fn halves(values: Tensor<1>) -> [Tensor<1>; 2] {
    let rows = values.dims()[0];
    [0..rows / 2, rows / 2..rows].map(|half| values.clone().slice([half]))
}

/// A LoRA branch: `A` `[r, in]` and `B` `[out, r]`.
struct Member {
    parameters: Parameters,
    optimizer: AdamW,
}

impl Member {
    fn factor(&self, name: &str) -> Tensor<2> {
        factor(&self.parameters, name)
    }
}

fn parameters(a: &Value, b: &Value, precision: Precision) -> Parameters {
    let mut parameters = Parameters::new();
    parameters.insert("A".into(), precision.matrix(a));
    parameters.insert("B".into(), precision.matrix(b));
    parameters
}

fn factor(parameters: &Parameters, name: &str) -> Tensor<2> {
    parameters.get(name).unwrap().clone()
}

/// The ensemble's branch `[out, in]`, merged in f64: with `linear` the authors' PEFT merge, with `mean` the mean of the
/// members' branches.
fn merged(members: &[Member], scaling: f64, merge: &str, precision: Precision) -> Result<Tensor<2>, String> {
    let how = match merge {
        "linear" => AdapterMerge::PeftLinear,
        other => other.parse().map_err(|error: bpo_model::Error| error.to_string())?,
    };
    let low_rank = |member: &Member| {
        let (a, b) = (member.factor("A"), member.factor("B"));
        LowRank::new(a.dims()[0], &read(a), &read(b))
    };
    let branches: Result<Vec<LowRank>, _> = members.iter().map(low_rank).collect();
    let branches = branches.map_err(|error| error.to_string())?;
    let factors = vec![scaling / members.len() as f64; members.len()];
    let (delta, _) = merge_deltas(&branches, &factors, how).map_err(|error| error.to_string())?;
    Ok(precision.tensor(delta.product(), delta.shape()))
}

/// What compares numbers of a case.
struct Compare<'a> {
    found: &'a mut Check,
    case: &'a str,
    precision: Precision,
}

impl Compare<'_> {
    fn close(&mut self, what: &str, got: &[f64], expected: &Value) {
        self.close_to(what, got, expected, 1.0);
    }

    /// As [`Compare::close`], for sums of terms of about `scale`: where they cancel, their rounding errors stay.
    fn close_to(&mut self, what: &str, got: &[f64], expected: &Value, scale: f64) {
        let what = format!("{what} in {}", self.precision.name());
        let tolerance = self.precision.tolerance() * scale.max(1.0);
        self.found.close(&what, self.case, got, &numbers(expected), tolerance);
    }

    /// Weights after an update at learning rate `rate`. Adam divides a gradient by its own size: what f32 rounds off
    /// the whole gradient (1e-5 of its norm) is magnified in its small entries, up to the two steps between opposite
    /// signs.
    fn updated(&mut self, field: &str, got: &[f64], expected: &Value, gradient: &str, rate: f64) {
        let (norm, gradient) = (expected["grad_norm"].as_f64().unwrap_or(0.0), numbers(&expected[gradient]));
        let magnified = |index: usize| match self.precision.0 {
            DType::F64 => 0.0,
            _ => rate * (1e-5 * norm / gradient.get(index).map_or(0.0, |g| g.abs()).max(f64::MIN_POSITIVE)).min(2.0),
        };
        let what = format!("{field} in {}", self.precision.name());
        let tolerance = self.precision.tolerance();
        self.found.close_each(&what, self.case, got, &numbers(&expected[field]), |index| tolerance + magnified(index));
    }
}

/// A case at one precision.
struct Walk<'a> {
    case: &'a Value,
    precision: Precision,
    weight: Tensor<2>,
    scaling: f64,
    members: Vec<Member>,
    objective: Objective,
    adamw: AdamWConfig,
    rate: LearningRate,
    refreshes: RefreshSchedule,
}

impl<'a> Walk<'a> {
    fn new(case: &'a Value, precision: Precision) -> Result<Self, String> {
        let (init, hyper) = (&case["inputs"]["init"], &case["hyper"]);
        let number = |key: &str| hyper[key].as_f64().ok_or_else(|| format!("{}: no \"{key}\"", name(case)));
        let total = number("steps")? as u64;
        // The files' optimiser is that of transformers 4.41.2, whose epsilon is 1e-6.
        let adamw = AdamWConfig { epsilon: 1e-6, max_grad_norm: number("max_grad_norm")?, ..AdamWConfig::default() };
        let member = |(a, b): (&Value, &Value)| Member {
            parameters: parameters(a, b, precision),
            optimizer: AdamW::with_epsilon_hat(adamw),
        };
        let loss_type: LossType =
            hyper["loss"].as_str().unwrap_or_default().parse().map_err(|error: bpo_loss::Error| error.to_string())?;
        let [a, b] = ["A", "B"].map(|factor| init[factor].as_array().into_iter().flatten());
        Ok(Self {
            case,
            precision,
            weight: precision.matrix(&init["W"]),
            scaling: init["scaling"].as_f64().ok_or("no \"scaling\"")?,
            members: a.zip(b).map(member).collect(),
            objective: Objective { beta: number("beta")?, ..Objective::from(loss_type) },
            adamw,
            rate: LearningRate { peak: number("lr")?, scheduler: LrScheduler::Linear, warmup: 0, total },
            refreshes: RefreshSchedule::every(number("sampling_update_step")? as u64, total),
        })
    }

    fn check(mut self, found: &mut Check) -> Result<(), String> {
        let (case, hyper) = (self.case, &self.case["hyper"]);
        let mut compare = Compare { found, case: name(case), precision: self.precision };
        let merge = hyper["merge"].as_str().unwrap_or_default();
        let initial = merged(&self.members, self.scaling, merge, self.precision)?;
        let mut behaviour = initial.clone();
        for (step, expected) in case["expected"]["trace"].as_array().ok_or("no \"trace\"")?.iter().enumerate() {
            let due = self.refreshes.due(step as u64);
            if due {
                behaviour = merged(&self.members, self.scaling, merge, self.precision)?;
            }
            compare.found.same("refreshed", name(case), &Some(due), &expected["refreshed"].as_bool());
            compare.close("behaviour_delta", &read(behaviour.clone()), &expected["behaviour_delta"]);
            let reference = match hyper["reference"].as_str() {
                Some("behaviour") => &behaviour,
                Some("sft" | "initial") => &initial,
                other => return Err(format!("{}: unknown reference {other:?}", name(case))),
            };
            self.step(step, reference, expected, &mut compare)?;
        }
        for merge in ["linear", "mean"] {
            let delta = read(merged(&self.members, self.scaling, merge, self.precision)?);
            let field = format!("final_merged_delta_{merge}");
            compare.close(&field, &delta, &case["expected"][&field]);
        }
        Ok(())
    }

    /// One step of every member on the same pairs, against the same reference.
    fn step(
        &mut self,
        step: usize,
        reference: &Tensor<2>,
        expected: &Value,
        compare: &mut Compare<'_>,
    ) -> Result<(), String> {
        let batch = Batch::of(&self.case["inputs"], step, self.precision);
        let reference = batch.logps(self.weight.clone() + reference.clone());
        let [chosen, rejected] = batch.listed(&reference, &self.objective);
        compare.close("ref_chosen_logps", &chosen, &expected["ref_chosen_logps"]);
        compare.close("ref_rejected_logps", &rejected, &expected["ref_rejected_logps"]);
        let rate = self.rate.at(step as u64);
        let listed = expected["members"].as_array().ok_or("no \"members\"")?;
        compare.found.same("members", compare.case, &self.members.len(), &listed.len());
        for (member, expected) in self.members.iter_mut().zip(listed) {
            let leaves = member.parameters.tracked();
            let delta = factor(&leaves, "B").matmul(factor(&leaves, "A")) * self.scaling;
            let policy = batch.logps(self.weight.clone() + delta);
            let [chosen, rejected] = batch.listed(&policy, &self.objective);
            compare.close("policy_chosen_logps", &chosen, &expected["policy_chosen_logps"]);
            compare.close("policy_rejected_logps", &rejected, &expected["policy_rejected_logps"]);

            let losses = self.objective.losses(&policy, &reference).map_err(|error| error.to_string())?;
            // Not divided: burn's derivative of a division by a number is rounded to f32.
            let loss = losses.clone().sum() * (1.0 / losses.dims()[0] as f64);
            compare.close("losses", &read(losses), &expected["losses"]);
            compare.close("loss", &read(loss.clone()), &expected["loss"]);

            let mut gradients = Gradients::default();
            gradients.add(&leaves, &mut loss.backward().into());
            let norm = gradients.norm();
            compare.close("grad_norm", &[norm], &expected["grad_norm"]);
            let clip = listed_clip(expected, norm, self.adamw.max_grad_norm);
            for (parameter, field) in [("A", "grad_A"), ("B", "grad_B")] {
                let gradient = gradients.get(parameter).ok_or_else(|| format!("{parameter} has no gradient"))?;
                compare.close_to(field, &read(gradient.clone() * clip), &expected[field], norm * clip);
            }

            compare.close("lr", &[rate], &expected["lr"]);
            member.parameters = member.optimizer.step(&member.parameters, &gradients, norm, rate);
            for (parameter, field, gradient) in [("A", "A_after", "grad_A"), ("B", "B_after", "grad_B")] {
                let updated = read(member.factor(parameter));
                compare.updated(field, &updated, expected, gradient, rate);
            }
            if self.precision.0 == DType::F32 {
                // Each step from the file's weights: Adam magnifies what the steps before it rounded.
                member.parameters = parameters(&expected["A_after"], &expected["B_after"], self.precision);
            }
        }
        Ok(())
    }
}

/// What gradients are multiplied by before they are compared. The schema does not say whether `grad_A` and `grad_B`
/// are listed before or after clipping; their own norm does.
fn listed_clip(expected: &Value, norm: f64, max: f64) -> f64 {
    let squares = ["grad_A", "grad_B"].iter().flat_map(|field| numbers(&expected[field])).map(|g| g * g);
    let (listed, before) = (squares.sum::<f64>().sqrt(), expected["grad_norm"].as_f64().unwrap_or(norm));
    let clipped = norm > max && (listed - before).abs() > 1e-6 * before;
    if clipped { max / (norm + 1e-6) } else { 1.0 }
}
