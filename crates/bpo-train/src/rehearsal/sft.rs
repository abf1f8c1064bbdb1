//! Supervised runs: what they would do.
use std::time::Duration;

use bpo_data::{Rows, TextRow, Tokenizer};
use bpo_store::RowFile;

use super::{
    Footprint, Pace, Plan, Sizes, Trial,
    footprint::Work,
    plan::{Micros, per_token, update},
};
use crate::{
    Error, Gradients, SftInputs, SftRecipe, Silent,
    sft::{Example, Micro, examples, initial},
};

impl SftRecipe {
    /// What a run on `rows` would be.
    ///
    /// # Errors
    /// As [`sft`](fn@crate::sft).
    pub fn plan(&self, sizes: Sizes<'_>, tokenizer: &Tokenizer, rows: &Rows<TextRow>) -> Result<Plan, Error> {
        self.validate()?;
        let context = sizes.body.context();
        let (examples, note) = examples(self, tokenizer, context, rows, RowFile::temporary(), &mut Silent)?;
        let lengths = lengths(&examples)?;
        let shared = self.as_recipe();
        let micros = Micros::of(&shared, examples.len());
        let work = Work { tokens: micros.iter().map(|micro| tokens(&lengths, &micro)).max(), ..Work::default() };
        Ok(Plan {
            training: examples.len(),
            held_out: 0,
            longest: lengths.iter().copied().max().unwrap_or(0),
            steps: micros.steps,
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
        let context = base.config().max_position_embeddings;
        let (examples, _) = examples(self, &tokenizer, context, &rows, RowFile::temporary(), &mut Silent)?;
        let lengths = lengths(&examples)?;
        let (shared, trained) = (self.as_recipe(), initial(self, &base)?);
        let (micros, mut gradients) = (Micros::of(&shared, examples.len()), Gradients::default());
        let pad = tokenizer.pad_id().unwrap_or(0);
        let each = per_token(micros.iter(), budget, |places| {
            let (rows, tokens) = (examples.some(places.iter().copied())?, tokens(&lengths, &places));
            gradients = Gradients::default();
            Micro { rows: &rows, tokens, seed: self.seed }.add((&base, pad), &trained, &mut gradients)?;
            Ok(tokens)
        })?;
        let trainable = trained.parameters().count();
        let update = update(trained, &shared, gradients)?;
        let all: usize = micros.iter().map(|places| tokens(&lengths, &places)).sum();
        let steps = micros.steps;
        let per_step = all as f64 / steps.max(1) as f64;
        let train = each * per_step + update;
        let length = all as f64 / (steps.max(1) as usize * shared.prompts_per_step()) as f64;
        let pace = Pace { train, steps, tokens: per_step as usize, length, sampled: 1.0, ..Pace::default() };
        Ok(Trial { trainable, pace })
    }
}

/// Tokens of each.
fn lengths(examples: &RowFile<Example>) -> Result<Vec<usize>, Error> {
    examples.iter().map(|example| Ok(example?.length())).collect()
}

fn tokens(lengths: &[usize], places: &[usize]) -> usize {
    places.iter().map(|&place| lengths[place]).sum()
}
