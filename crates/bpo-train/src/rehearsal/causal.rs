//! Runs on outcomes: what they would do.
use std::time::Duration;

use bpo_data::{OutcomeRow, ReferenceRow, Rows, Tokenizer};
use bpo_store::RowFile;

use super::{
    Footprint, Pace, Plan, Rehearsal, Sizes, Trial,
    footprint::Work,
    pace::timed,
    plan::{Micros, per_token, update},
};
use crate::{
    CausalEstimator, CausalInputs, CausalRecipe, CollectionPhases, Error, Gradients, Prepared, RefreshSchedule, Silent,
    TrainPrompt,
    causal::{Text, Texts, start, texts},
    evaluate::pack,
    state::State,
};

impl CausalRecipe {
    /// What a run on `rows` would be.
    ///
    /// # Errors
    /// As [`causal`](fn@crate::causal).
    pub fn plan(
        &self,
        sizes: Sizes<'_>,
        tokenizer: &Tokenizer,
        rows: &Rows<OutcomeRow>,
        references: Option<&Rows<ReferenceRow>>,
    ) -> Result<Plan, Error> {
        self.validate()?;
        let context = sizes.body.context();
        let Texts { train, eval, notes } = texts(self, tokenizer, context, rows, references, (None, &mut Silent))?;
        let lengths = lengths(&train)?;
        let shared = self.as_recipe();
        let micros = Micros::of(&shared, train.len());
        let drawn = self.drawn() * self.max_new_tokens;
        let micro = |places: Vec<usize>| tokens(&lengths, &places) + drawn * places.len();
        let prompts =
            || eval.iter().map(|eval| eval.prompt.ids.len()).chain(lengths.iter().map(|length| length.prompt));
        let prompt = prompts().sum::<usize>().div_ceil(prompts().count().max(1));
        let samples = !eval.is_empty() || drawn > 0;
        let work = Work {
            // The start.
            snapshots: 1,
            tokens: micros.iter().map(micro).max(),
            cached: samples.then_some(self.per_device_eval_batch_size * (prompt + self.max_new_tokens)),
            ..Work::default()
        };
        Ok(Plan {
            training: train.len(),
            held_out: eval.len(),
            longest: lengths.iter().map(|length| length.whole).max().unwrap_or(0),
            steps: micros.steps,
            notes,
            footprint: Footprint::of_work(&shared, sizes, work),
        })
    }

    /// How fast this machine does the first steps: as many micro-batches, and as much of the first step's sampling (or of an
    /// evaluation's), as `budget` has time for; no weight is changed and nobody is asked.
    ///
    /// # Errors
    /// As [`causal`](fn@crate::causal).
    pub fn tried(&self, inputs: CausalInputs, budget: Duration) -> Result<Trial, Error> {
        let CausalInputs { base, adapter, tokenizer, rows, references, .. } = inputs;
        let base = base.with_gradient_checkpointing(self.gradient_checkpointing);
        let context = base.config().max_position_embeddings;
        let rows = (&rows, references.as_ref());
        let Texts { train, eval, .. } = texts(self, &tokenizer, context, rows.0, rows.1, (None, &mut Silent))?;
        let lengths = lengths(&train)?;
        let (shared, trained) = (self.as_recipe(), start(self, &base, adapter)?);
        let micros = Micros::of(&shared, train.len());
        let total = micros.steps;
        let trainable = trained.parameters().count();
        let evaluations = match eval.len() {
            0 => 0,
            _ => {
                let schedule = RefreshSchedule::new(CollectionPhases::Count(1), total);
                2 + (1..total).filter(|&step| shared.evaluates_at(step, total, &schedule)).count() as u64
            }
        };
        let rehearsal = Rehearsal {
            recipe: &shared,
            base: base.clone(),
            tokenizer,
            ensemble: State::solo(trained.clone(), shared.adamw()).ensemble,
            prompts: Prepared { train: RowFile::temporary(), eval, notes: Vec::new() },
            total,
            lines: Vec::new(),
        };
        let (each_drawn, share, drawn) = self.draw(&rehearsal, &train, &micros, budget)?;
        let pad = rehearsal.tokenizer.pad_id().unwrap_or(0);
        let layout = |places: &[usize]| {
            let texts = train.some(places.iter().copied())?;
            pack(&base, &texts.iter().map(Text::group).collect::<Vec<_>>(), pad)
        };
        let first: Vec<usize> = micros.iter().next().unwrap_or_default();
        let model = trained.model(&base)?;
        let (_, scoring) = timed(|| self.causal_form.scores(&model, &layout(&first)?))?;
        let forward = scoring.as_secs_f64() / tokens(&lengths, &first).max(1) as f64;
        let mut gradients = Gradients::default();
        let backward = per_token(micros.iter(), budget, |places| {
            let (policy, leaves) = trained.tracked(&base)?;
            let flat = |scores: &[f32]| Ok(vec![1.0 / scores.len().max(1) as f32; scores.len()]);
            let mut found = self.causal_form.backward(&policy.with_dropout_seed(self.seed), &layout(&places)?, flat)?;
            gradients = Gradients::default();
            gradients.add(&leaves, &mut found);
            Ok(tokens(&lengths, &places))
        })?;
        let update = update(trained, &shared, gradients)?;
        let texts_per_step = shared.prompts_per_step() as f64;
        let all: usize = lengths.iter().map(|length| length.whole).sum();
        let length = all as f64 / train.len() as f64;
        let sampled = texts_per_step * self.drawn() as f64;
        let per_step = texts_per_step * length + sampled * drawn;
        // Several micro-batches are scored once before, without gradients.
        let passes = backward + if self.gradient_accumulation_steps > 1 { forward } else { 0.0 };
        let held_out =
            rehearsal.prompts.eval.iter().map(|eval| each_drawn + forward * (eval.prompt.ids.len() as f64 + drawn));
        let pace = Pace {
            once: forward * all as f64,
            sample: sampled * each_drawn,
            train: passes * per_step + update,
            evaluate: held_out.sum(),
            evaluations,
            steps: total,
            tokens: per_step as usize,
            length: drawn,
            sampled: share,
        };
        Ok(Trial { trainable, pace })
    }

    /// Seconds for each completion of the first step's prompts, or of held-out ones; the share of them that was drawn; and
    /// their mean length in tokens.
    fn draw(
        &self,
        rehearsal: &Rehearsal<'_>,
        train: &RowFile<Text>,
        micros: &Micros,
        budget: Duration,
    ) -> Result<(f64, f64, f64), Error> {
        let (prompts, slots): (Vec<TrainPrompt>, u64) = match self.drawn() {
            0 => {
                let eval = rehearsal.prompts.eval.iter().take(self.per_device_eval_batch_size);
                (eval.map(|eval| eval.prompt.clone()).collect(), 1)
            }
            slots => (train.some(micros.first_step())?.into_iter().map(|text| text.prompt).collect(), slots as u64),
        };
        if prompts.is_empty() {
            return Ok((0.0, 1.0, 0.0));
        }
        let (seconds, share, drawn) = rehearsal.sampled(&prompts.iter().collect::<Vec<_>>(), slots, budget)?;
        let lengths: Vec<usize> = drawn.iter().flatten().map(|sample| sample.tokens.len()).collect();
        let count = lengths.len().max(1) as f64;
        Ok((seconds / count, share, lengths.iter().sum::<usize>() as f64 / count))
    }

    /// Completions that are drawn for a text of a step.
    fn drawn(&self) -> usize {
        match self.causal_estimator {
            CausalEstimator::Ipw => 0,
            CausalEstimator::Dr => self.samples_per_prompt,
        }
    }
}

/// Tokens of a text.
struct Length {
    prompt: usize,
    whole: usize,
}

fn lengths(texts: &RowFile<Text>) -> Result<Vec<Length>, Error> {
    let length =
        |text: Text| Length { prompt: text.prompt.ids.len(), whole: text.prompt.ids.len() + text.completion.len() };
    texts.iter().map(|text| Ok(length(text?))).collect()
}

fn tokens(lengths: &[Length], places: &[usize]) -> usize {
    places.iter().map(|&place| lengths[place].whole).sum()
}
