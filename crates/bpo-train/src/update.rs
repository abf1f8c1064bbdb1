//! From pairs to gradients: log-probs under policy and reference, the objective, the backward pass.
use bpo_data::{Group, Layout};
use bpo_loss::{Objective, PairLogps, ld_token_weights, optune_weights, selm_bonus, wpo_weight};
use bpo_model::Decoder;
use burn::tensor::{Device, Tensor, TensorData};

use crate::{
    Error, Gradients, Scored, Trainable,
    collect::Pair,
    evaluate::pack,
    score::{Slopes, backward_weighted, host, score, sum},
    token_logps,
};

/// What turns the log-probs of pairs into a loss.
#[derive(Debug, Clone)]
pub(crate) struct Criterion {
    pub objective: Objective,
    /// LD-DPO.
    pub ld_alpha: Option<f64>,
    /// WPO.
    pub use_weighting: bool,
    /// OPTune.
    pub optune_beta2: Option<f64>,
    /// SELM.
    pub selm_alpha: Option<f64>,
}

/// Pairs laid out for scoring, with the reference's view of them.
pub(crate) struct Batch<'p> {
    pub pairs: &'p [Pair<'p>],
    pub layout: Layout,
    /// Index of each pair's first sequence, its chosen completion; the rejected one follows.
    pub first: Vec<usize>,
    /// log π_ref of every token, `[sequences][tokens]`.
    pub reference: Vec<Vec<f32>>,
    /// Σ of the log-probs recorded while sampling, `[sequences]`; `None` where a completion came with the data.
    pub sampled: Option<Vec<f32>>,
}

impl<'p> Batch<'p> {
    /// Lays pairs out; `reference` gives the reference's token log-probs where samples have not recorded them.
    pub fn new(
        pairs: &'p [Pair<'p>],
        pad: u32,
        recorded: bool,
        base: &Decoder,
        reference: impl FnOnce() -> Result<Decoder, Error>,
    ) -> Result<Self, Error> {
        let groups: Vec<Group<'_>> = pairs.iter().map(Pair::group).collect();
        let layout = pack(base, &groups, pad)?;
        let first = groups.iter().scan(0, |next, group| {
            let first = *next;
            *next += group.completions.len();
            Some(first)
        });
        let first = first.collect();
        let samples = || pairs.iter().flat_map(Pair::samples);
        let sampled = samples().map(|sample| (sample.logps.len() == sample.tokens.len()).then(|| sample.logp()));
        let sampled: Option<Vec<f32>> = sampled.collect();
        let reference = match recorded && sampled.is_some() {
            true => samples().map(|sample| sample.logps.clone()).collect(),
            false => token_logps(&reference()?, &layout)?,
        };
        Ok(Self { pairs, layout, first, reference, sampled })
    }

    /// LD-DPO's weights of every token.
    fn token_weights(&self, lengths: &[usize], ld_alpha: f64) -> Vec<Vec<f32>> {
        let mut weights: Vec<Vec<f32>> = lengths.iter().map(|&length| vec![1.0; length]).collect();
        for &chosen in &self.first {
            let (ours, theirs) = (lengths[chosen], lengths[chosen + 1]);
            weights[chosen] = ld_token_weights(ours, theirs, ld_alpha).map(|weight| weight as f32).collect();
            weights[chosen + 1] = ld_token_weights(theirs, ours, ld_alpha).map(|weight| weight as f32).collect();
        }
        weights
    }
}

/// The loss of some pairs, and how it moves their log-probs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Losses {
    /// Σ over pairs.
    pub total: f64,
    pub slopes: Slopes,
    /// log π of each pair's completions, chosen then rejected, as the loss reads them, `[pairs]`.
    pub policy: [Vec<f32>; 2],
    /// log π_ref of the same.
    pub reference: [Vec<f32>; 2],
}

impl Losses {
    /// Whether any value or slope is NaN or infinite.
    pub fn are_finite(&self) -> bool {
        self.total.is_finite() && self.slopes.sequences.iter().all(|slope| slope.is_finite())
    }

    /// ρ of each pair.
    pub fn margins(&self) -> impl Iterator<Item = f64> {
        let [chosen, rejected] = &self.policy;
        let [ref_chosen, ref_rejected] = &self.reference;
        let ratio = |policy: &f32, reference: &f32| f64::from(*policy) - f64::from(*reference);
        let chosen = chosen.iter().zip(ref_chosen).map(move |(p, r)| ratio(p, r));
        chosen.zip(rejected.iter().zip(ref_rejected).map(move |(p, r)| ratio(p, r))).map(|(c, r)| c - r)
    }
}

impl Criterion {
    /// Losses of a batch that was scored as `scored`, and dL/d(log-prob) of its sequences, L being their sum over
    /// `pairs`. Several batches' pairs are given together where the objective couples them.
    pub fn losses(
        &self,
        batches: &[(&Batch<'_>, &Scored)],
        pairs: usize,
        device: &Device,
    ) -> Result<Vec<Losses>, Error> {
        let device = device.clone().autodiff();
        let mut sides = Sides::default();
        let mut each = Vec::with_capacity(batches.len());
        for (batch, scored) in batches {
            let weights = self.ld_alpha.map(|alpha| batch.token_weights(&scored.lengths, alpha));
            let mut losses = sides.add(batch, scored, weights.as_deref());
            losses.slopes = Slopes { sequences: vec![0.0; scored.sums.len()], token_weights: weights };
            each.push(losses);
        }
        let leaf = |values: &[f32]| vector(values, &device).require_grad();
        let (chosen, rejected) = (leaf(&sides.policy[0]), leaf(&sides.policy[1]));
        let optimistic = self.selm_alpha.map(|alpha| (alpha, leaf(&sides.optimistic[0])));
        let policy = PairLogps::new(chosen.clone(), rejected.clone())?
            .with_lengths(vector(&sides.lengths[0], &device), vector(&sides.lengths[1], &device))?;
        let reference = PairLogps::new(vector(&sides.reference[0], &device), vector(&sides.reference[1], &device))?;
        let mut losses = self.objective.losses(&policy, &reference)?;
        if let Some(weights) = self.pair_weights(batches, &device)? {
            losses = losses * weights;
        }
        if let Some((alpha, response)) = &optimistic {
            let anchor = vector(&sides.optimistic[1], &device);
            losses = losses + selm_bonus(response.clone(), anchor, self.objective.beta, *alpha)?;
        }
        let values = host(&losses.clone().inner())?;
        let gradients = (losses.sum() / pairs as f64).backward();
        let slope = |leaf: &Tensor<1>| match leaf.grad(&gradients) {
            Some(gradient) => host(&gradient),
            None => Ok(vec![0.0; values.len()]),
        };
        let optimistic = optimistic.map_or_else(|| Ok(Vec::new()), |(_, response)| slope(&response))?;
        let slopes = [slope(&chosen)?, slope(&rejected)?, optimistic];
        spread(batches, &values, &slopes, &mut each);
        Ok(each)
    }

    /// Factors of the pairs' losses, where a procedure has such.
    fn pair_weights(&self, batches: &[(&Batch<'_>, &Scored)], device: &Device) -> Result<Option<Tensor<1>>, Error> {
        let mut weights: Option<Tensor<1>> = None;
        if let Some(beta2) = self.optune_beta2 {
            let gaps: Option<Vec<f32>> =
                batches.iter().flat_map(|(batch, _)| batch.pairs).map(|pair| pair.gap.map(|gap| gap as f32)).collect();
            let gaps = gaps.ok_or_else(|| Error::Recipe("optune_beta2 needs an annotator that gives scores".into()))?;
            weights = Some(optune_weights(vector(&gaps, device), beta2));
        }
        if self.use_weighting {
            let likely: Vec<f32> = batches
                .iter()
                .flat_map(|(batch, scored)| batch.first.iter().map(|&first| wpo_pair_weight(scored, first)))
                .collect();
            let likely = vector(&likely, device);
            weights = Some(match weights {
                Some(weights) => weights * likely,
                None => likely,
            });
        }
        Ok(weights)
    }

    /// Adds the gradients of `policy` over all batches to `gradients`: those of the sum over batches of the losses,
    /// divided by the number of pairs. `seed` decides the dropout masks of each batch.
    pub fn backward(
        &self,
        policy: &Trainable,
        base: &Decoder,
        batches: &[Batch<'_>],
        seed: impl Fn(u64) -> u64,
        mut done: impl FnMut(&Batch<'_>, &Scored, &Losses) -> Result<(), Error>,
    ) -> Result<Gradients, Error> {
        let mut gradients = Gradients::default();
        let pairs = batches.iter().map(|batch| batch.pairs.len()).sum();
        let device = base.device();
        // A loss that couples pairs sees all of the step's at once, however they are cut into batches.
        let mut coupled = match self.objective.is_batch_coupled() && batches.len() > 1 {
            true => Some(self.coupled(&policy.in_training(base)?, batches, pairs, &seed)?.into_iter()),
            false => None,
        };
        for (index, batch) in batches.iter().enumerate() {
            let (model, leaves) = policy.tracked(base)?;
            let model = model.with_dropout_seed(seed(index as u64));
            let mut losses = coupled.as_mut().and_then(Iterator::next);
            let (scored, mut grads) = backward_weighted(&model, &batch.layout, self.use_weighting, |scored| {
                if losses.is_none() {
                    losses = self.losses(&[(batch, scored)], pairs, &device)?.pop();
                }
                Ok(losses.as_ref().map(|losses| losses.slopes.clone()).unwrap_or_default())
            })?;
            done(batch, &scored, &losses.unwrap_or_default())?;
            gradients.add(&leaves, &mut grads);
        }
        Ok(gradients)
    }

    fn coupled(
        &self,
        model: &Decoder,
        batches: &[Batch<'_>],
        pairs: usize,
        seed: impl Fn(u64) -> u64,
    ) -> Result<Vec<Losses>, Error> {
        let scored = batches.iter().enumerate().map(|(index, batch)| {
            let model = model.clone().with_dropout_seed(seed(index as u64));
            score(&model, &batch.layout, self.use_weighting)
        });
        let scored = scored.collect::<Result<Vec<Scored>, Error>>()?;
        let together: Vec<(&Batch<'_>, &Scored)> = batches.iter().zip(&scored).collect();
        self.losses(&together, pairs, &model.device())
    }
}

/// Log-probs of all pairs, as the objective takes them; index 0 is the chosen completion.
#[derive(Debug, Default)]
struct Sides {
    policy: [Vec<f32>; 2],
    reference: [Vec<f32>; 2],
    lengths: [Vec<f32>; 2],
    /// Policy and reference of the optimistic responses.
    optimistic: [Vec<f32>; 2],
}

impl Sides {
    fn add(&mut self, batch: &Batch<'_>, scored: &Scored, weights: Option<&[Vec<f32>]>) -> Losses {
        let mut losses = Losses::default();
        let total = |tokens: &[Vec<f32>], sequence: usize| match weights {
            Some(weights) => dot(&tokens[sequence], &weights[sequence]),
            None => sum(&tokens[sequence]),
        };
        for (pair, &first) in batch.pairs.iter().zip(&batch.first) {
            for side in 0..2 {
                losses.policy[side].push(total(&scored.tokens, first + side));
                losses.reference[side].push(total(&batch.reference, first + side));
                self.lengths[side].push(scored.lengths[first + side] as f32);
            }
            if let Some(index) = pair.optimistic_index() {
                self.optimistic[0].push(sum(&scored.tokens[first + index]));
                self.optimistic[1].push(sum(&batch.reference[first + index]));
            }
        }
        for side in 0..2 {
            self.policy[side].extend(&losses.policy[side]);
            self.reference[side].extend(&losses.reference[side]);
        }
        losses
    }
}

/// Gives each batch its share of values and slopes.
fn spread(batches: &[(&Batch<'_>, &Scored)], values: &[f32], slopes: &[Vec<f32>; 3], each: &mut [Losses]) {
    let mut pair = 0;
    for ((batch, _), losses) in batches.iter().zip(each) {
        for (kept, &first) in batch.pairs.iter().zip(&batch.first) {
            losses.total += f64::from(values[pair]);
            losses.slopes.sequences[first] += slopes[0][pair];
            losses.slopes.sequences[first + 1] += slopes[1][pair];
            if let Some(index) = kept.optimistic_index() {
                losses.slopes.sequences[first + index] += slopes[2][pair];
            }
            pair += 1;
        }
    }
}

fn wpo_pair_weight(scored: &Scored, first: usize) -> f32 {
    let weight = |sequence: usize| wpo_weight(&scored.tokens[sequence], &scored.collisions[sequence]);
    (weight(first) * weight(first + 1)) as f32
}

/// Added in f64.
fn dot(values: &[f32], weights: &[f32]) -> f32 {
    values.iter().zip(weights).map(|(&value, &weight)| f64::from(value) * f64::from(weight)).sum::<f64>() as f32
}

fn vector(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

#[cfg(test)]
mod tests;
