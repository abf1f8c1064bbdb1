//! The loop of runs whose examples are given: supervised fine-tuning and reward models.
use std::time::Instant;

use bpo_data::PromptOrder;
use bpo_store::{Checkpoints, MetricsLog, RunDir};
use burn::tensor::Device;
use serde_json::{Map, Value, json};

use crate::{
    Error, LearningRate, Observer, Recipe, Trainable,
    state::{Resumed, State},
    step_metrics::peak_rss_mib,
};

/// Tokens that a step has read, as its metrics have them.
pub(crate) const TOKENS: &str = "train/tokens";

/// The steps of a run that trains one set of tensors on examples, in the order of the seed.
pub(crate) struct Steps {
    /// After the steps that are done.
    pub state: State,
    /// Steps of the whole run.
    pub total: u64,
    order: PromptOrder,
    per_step: usize,
    rate: LearningRate,
    save_steps: u64,
    checkpoints: Checkpoints,
    metrics: MetricsLog,
}

impl Steps {
    /// Of a run over `examples` examples in `dir`: from its last checkpoint, or from `initial`. Keys that runs of all
    /// kinds share are those of `recipe`.
    pub fn resumed(
        recipe: &Recipe,
        examples: usize,
        (initial, device): (Trainable, &Device),
        dir: &RunDir,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let config = recipe.adamw();
        let Resumed { state, checkpoints, from } =
            State::solo(initial, config).resumed(dir, config, device, observer)?;
        let total = recipe.steps(examples);
        Ok(Self {
            state,
            total,
            order: PromptOrder::new(examples, recipe.seed),
            per_step: recipe.prompts_per_step(),
            rate: recipe.rate(total),
            save_steps: recipe.save_steps,
            checkpoints,
            metrics: dir.metrics(from)?,
        })
    }

    /// Whether any is left.
    pub fn are_left(&self) -> bool {
        self.state.step < self.total
    }

    /// All that are left: `step` trains on the examples at these places, at this learning rate, and says what came of it.
    /// `false` when the observer asked to stop: the state is saved.
    pub fn complete(
        &mut self,
        observer: &mut dyn Observer,
        mut step: impl FnMut(&mut State, &[usize], f64, &mut dyn Observer) -> Result<Map<String, Value>, Error>,
    ) -> Result<bool, Error> {
        while self.are_left() {
            if observer.interrupted() {
                self.state.save(&mut self.checkpoints)?;
                return Ok(false);
            }
            let started = Instant::now();
            let (batch, rate) = (self.order.at(self.state.step, self.per_step), self.rate.at(self.state.step));
            let said = step(&mut self.state, &batch, rate, observer)?;
            let mut record = Map::new();
            record.insert("step".into(), json!(self.state.step));
            record.extend(said);
            record.insert("learning_rate".into(), json!(rate));
            let seconds = started.elapsed().as_secs_f64();
            if let Some(tokens) = record.get(TOKENS).and_then(Value::as_f64) {
                record.insert("train/tokens_per_second".into(), json!(tokens / seconds.max(f64::MIN_POSITIVE)));
            }
            record.insert("time/step".into(), json!(seconds));
            if let Some(mebibytes) = peak_rss_mib() {
                record.insert("memory/peak_rss_mib".into(), json!(mebibytes));
            }
            self.metrics.append(&Value::Object(record.clone()))?;
            observer.step(self.state.step, self.total, &record);
            if self.state.step.is_multiple_of(self.save_steps) || self.state.step == self.total {
                self.state.save(&mut self.checkpoints)?;
            }
        }
        Ok(true)
    }
}
