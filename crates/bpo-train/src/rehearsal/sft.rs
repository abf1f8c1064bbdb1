//! Supervised runs: what they would do.
use std::time::Duration;

use bpo_data::{PromptOrder, TextRow, Tokenizer};

use super::{
    Body, Footprint, Pace, Plan, Sizes, Trial,
    footprint::Work,
    pace::timed,
    plan::{Micros, per_token},
};
use crate::{
    Error, Gradients, SftInputs, SftRecipe,
    sft::{Example, Micro, examples, initial},
    state::State,
};

impl SftRecipe {
    /// What a run on `rows` would be.
    ///
    /// # Errors
    /// As [`sft`](fn@crate::sft).
    pub fn plan(&self, sizes: Sizes<'_>, tokenizer: &Tokenizer, rows: Vec<TextRow>) -> Result<Plan, Error> {
        self.validate()?;
        let context = match sizes.body {
            Body::Decoder(config) => config.max_position_embeddings,
            Body::Encoder(config) => config.context(),
        };
        let (examples, note) = examples(self, tokenizer, context, rows)?;
        let shared = self.as_recipe();
        let steps = shared.steps(examples.len());
        let order = PromptOrder::new(examples.len(), self.seed);
        let work = Work {
            tokens: self.micros(&order, steps).iter().map(|micro| tokens(&examples, &micro)).max(),
            ..Work::default()
        };
        Ok(Plan {
            training: examples.len(),
            held_out: 0,
            longest: examples.iter().map(Example::length).max().unwrap_or(0),
            steps,
            notes: note.into_iter().collect(),
            footprint: Footprint::of_work(&shared, sizes, work),
        })
    }

    /// How fast this machine does the first steps: as many micro-batches as `budget` has time for, no weight being changed.
    ///
    /// # Errors
    /// As [`sft`](fn@crate::sft).
    pub fn tried(&self, inputs: SftInputs, budget: Duration) -> Result<Trial, Error> {
        let SftInputs { base, tokenizer, rows, .. } = inputs;
        let base = base.with_gradient_checkpointing(self.gradient_checkpointing);
        let (examples, _) = examples(self, &tokenizer, base.config().max_position_embeddings, rows)?;
        let (shared, trained) = (self.as_recipe(), initial(self, &base)?);
        let steps = shared.steps(examples.len());
        let order = PromptOrder::new(examples.len(), self.seed);
        let (micros, mut gradients) = (self.micros(&order, steps), Gradients::default());
        let pad = tokenizer.pad_id().unwrap_or(0);
        let each = per_token(micros.iter(), budget, |places| {
            let rows: Vec<&Example> = places.iter().map(|&place| &examples[place]).collect();
            let tokens = tokens(&examples, &places);
            gradients = Gradients::default();
            Micro { rows: &rows, tokens, seed: self.seed }.add((&base, pad), &trained, &mut gradients)?;
            Ok(tokens)
        })?;
        let trainable = trained.parameters().count();
        let mut state = State::solo(trained, shared.adamw());
        let found = |what: String| Error::NonFinite { step: 0, what, prompts: Vec::new(), dump: None };
        let (_, update) = timed(|| state.ensemble.update(&[gradients], 0.0).map_err(found))?;
        let all: usize = micros.iter().map(|places| tokens(&examples, &places)).sum();
        let per_step = all as f64 / steps.max(1) as f64;
        let train = each * per_step + update.as_secs_f64();
        let length = all as f64 / (steps.max(1) as usize * shared.prompts_per_step()) as f64;
        let pace = Pace { train, steps, tokens: per_step as usize, length, sampled: 1.0, ..Pace::default() };
        Ok(Trial { trainable, pace })
    }

    fn micros<'a>(&self, order: &'a PromptOrder, steps: u64) -> Micros<'a> {
        let size = self.per_device_train_batch_size;
        Micros { order, per_step: size * self.gradient_accumulation_steps, size, steps }
    }
}

fn tokens(examples: &[Example], places: &[usize]) -> usize {
    places.iter().map(|&place| examples[place].length()).sum()
}
