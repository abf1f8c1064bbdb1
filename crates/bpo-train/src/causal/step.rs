//! One update: scores, the loss over all texts of the step, slopes, gradients.
use bpo_data::Layout;
use bpo_loss::ImportanceMetrics;
use serde_json::{Map, Value, json};

use super::{Item, joined, losses::Batch, run::Run, split};
use crate::{
    CausalEstimator, CausalForm, Error, Gradients, Observer, Sample, Stage, collect,
    evaluate::pack,
    numerics::{Rows, not_finite},
    run::mixed,
};

/// The loss at some weights, and what follows from it.
struct Estimate {
    loss: f64,
    /// Scores of the logged texts, `[n]`.
    scores: Vec<f32>,
    /// dL/d(score) of every sequence, in the layouts' order.
    slopes: Vec<f32>,
}

impl Run<'_> {
    /// Gradients over the step's texts in micro-batches, then one update. Estimates are over all of them together,
    /// however they are cut: with several micro-batches a pass without gradients comes first.
    pub(super) fn train(
        &mut self,
        step: u64,
        items: &[Item<'_>],
        metrics: &mut Map<String, Value>,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let (layouts, batch) = (self.layouts(items)?, self.batch(items)?);
        let ahead = if layouts.len() > 1 { Some(self.ahead(step, items, &batch, &layouts)?) } else { None };
        let (mut estimate, mut gradients, mut at) = (ahead, Gradients::default(), 0);
        observer.begin(Stage::Train, layouts.len() as u64);
        for (index, layout) in layouts.iter().enumerate() {
            let (policy, leaves) = self.policy()?.tracked(&self.base)?;
            let policy = policy.with_dropout_seed(mixed(self.recipe.seed, step, index as u64));
            let mut found = self.recipe.causal_form.backward(&policy, layout, |scores| {
                let estimate = match &mut estimate {
                    Some(estimate) => estimate,
                    none => none.insert(self.estimate(step, items, &batch, scores)?),
                };
                Ok(estimate.slopes[at..at + scores.len()].to_vec())
            })?;
            gradients.add(&leaves, &mut found);
            at += layout.sequences;
            observer.advance(index as u64 + 1);
        }
        observer.end();
        let rate = self.rate.at(step);
        let norms = self
            .state
            .ensemble
            .update(&[gradients], rate)
            .map_err(|what| not_finite(self.dir, step, what, rows(items)))?;
        let norm: f64 = norms.iter().sum();
        metrics.insert("grad_norm".into(), json!(norm));
        metrics.insert("learning_rate".into(), json!(rate));
        if let Some(estimate) = &estimate {
            self.describe(items, estimate, &batch, metrics);
        }
        Ok(())
    }

    /// The step's micro-batches.
    fn layouts(&self, items: &[Item<'_>]) -> Result<Vec<Layout>, Error> {
        let pad = self.tokenizer.pad_id().unwrap_or(0);
        let micro = |items: &[Item<'_>]| pack(&self.base, &items.iter().map(Item::group).collect::<Vec<_>>(), pad);
        items.chunks(self.recipe.per_device_train_batch_size).map(micro).collect()
    }

    /// The estimate over several micro-batches, under the dropout that their backward passes will see.
    fn ahead(&self, step: u64, items: &[Item<'_>], batch: &Batch, layouts: &[Layout]) -> Result<Estimate, Error> {
        let mut scores = Vec::new();
        for (index, layout) in layouts.iter().enumerate() {
            let policy = self.policy()?.in_training(&self.base)?;
            let policy = policy.with_dropout_seed(mixed(self.recipe.seed, step, index as u64));
            scores.extend(self.recipe.causal_form.scores(&policy, layout)?);
        }
        self.estimate(step, items, batch, &scores)
    }

    /// At the policy's scores of all sequences of `items`.
    fn estimate(&self, step: u64, items: &[Item<'_>], batch: &Batch, scores: &[f32]) -> Result<Estimate, Error> {
        let (texts, samples) = split(items, scores);
        let losses = batch.losses(self.recipe, (&texts, &samples), &self.base.device())?;
        let slopes = joined(items, &losses);
        if !losses.value.is_finite() || !slopes.iter().all(|slope| slope.is_finite()) {
            return Err(not_finite(self.dir, step, "the loss", rows(items)));
        }
        Ok(Estimate { loss: losses.value, scores: texts, slopes })
    }

    /// What the losses read beside the policy's scores.
    fn batch(&self, items: &[Item<'_>]) -> Result<Batch, Error> {
        let predicted = items.iter().map(|item| item.text.predicted);
        let drawn = match (self.recipe.causal_form, self.recipe.causal_estimator) {
            (CausalForm::Official, CausalEstimator::Dr) => self.start_scores(items)?,
            _ => Vec::new(),
        };
        Ok(Batch {
            logging: items.iter().map(|item| self.logging[item.index]).collect(),
            outcomes: items.iter().map(|item| self.scaled(item.text.outcome)).collect(),
            predicted: predicted.map(|predicted| predicted.map_or(0.0, |predicted| self.scaled(predicted))).collect(),
            drawn,
            drawn_predicted: items.iter().flat_map(|item| &item.samples).map(|(_, g)| self.scaled(*g)).collect(),
            rows: self.texts.len(),
        })
    }

    /// The official form's scores of the samples under the start.
    fn start_scores(&self, items: &[Item<'_>]) -> Result<Vec<f32>, Error> {
        let model = self.initial.model(&self.base)?;
        let mut scores = Vec::new();
        for layout in self.layouts(items)? {
            scores.extend(self.recipe.causal_form.scores(&model, &layout)?);
        }
        Ok(split(items, &scores).1)
    }

    /// An outcome as the losses see it. The official form has its own sign.
    fn scaled(&self, outcome: f64) -> f32 {
        let value = if self.recipe.standardise_outcomes { self.scale.standardised(outcome) } else { outcome };
        let lowers = self.recipe.causal_form == CausalForm::Textbook && !self.recipe.higher_outcome_better;
        (if lowers { -value } else { value }) as f32
    }

    /// What the ratios amount to; outcomes in their own unit.
    fn describe(&self, items: &[Item<'_>], estimate: &Estimate, batch: &Batch, metrics: &mut Map<String, Value>) {
        let outcomes: Vec<f64> = items.iter().map(|item| item.text.outcome).collect();
        let importance = ImportanceMetrics::of(&estimate.scores, &batch.logging, &outcomes);
        let mut insert = |name: &str, value: f64| drop(metrics.insert(name.into(), json!(value)));
        insert("loss", estimate.loss);
        insert("causal/outcome_mean", outcomes.iter().sum::<f64>() / outcomes.len() as f64);
        insert("causal/value_self_normalised", importance.value_self_normalised);
        insert("causal/effective_samples", importance.effective_samples);
        // Scores of raw logits have no ratios of their own, only relative ones.
        if self.recipe.causal_form == CausalForm::Textbook {
            insert("causal/value_ipw", importance.value_ipw);
            insert("causal/max_ratio", importance.max_ratio);
        }
    }

    /// Length, variety and ĝ of what was sampled.
    pub(super) fn describe_samples(&self, items: &[Item<'_>], metrics: &mut Map<String, Value>) {
        let samples: Vec<&(Sample, f64)> = items.iter().flat_map(|item| &item.samples).collect();
        if samples.is_empty() {
            return;
        }
        let mean = |value: &dyn Fn(&(Sample, f64)) -> f64| {
            samples.iter().map(|sample| value(sample)).sum::<f64>() / samples.len() as f64
        };
        metrics.insert("objective/scores".into(), json!(mean(&|(_, score)| *score)));
        metrics.insert("collect/length".into(), json!(mean(&|(sample, _)| sample.tokens.len() as f64)));
        let distinct = collect::distinct(samples.iter().map(|(sample, _)| sample.text.as_str()));
        metrics.insert("collect/distinct".into(), json!(distinct));
    }
}

/// A batch by the ids of its prompts.
fn rows(items: &[Item<'_>]) -> Rows {
    let row = |item: &Item<'_>| {
        let (id, outcome) = (item.text.prompt.id, item.text.outcome);
        (id, json!({"prompt": id, "text": item.text.prompt.text, "row": item.index, "outcome": outcome}))
    };
    items.iter().map(row).collect()
}
