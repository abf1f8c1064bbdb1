//! Reward models: what their training would do.
use std::time::Duration;

use bpo_data::{PreferenceRow, Rows, Tokenizer};
use bpo_store::RowFile;

use super::{
    Body, Footprint, Pace, Plan, Sizes, Trial,
    footprint::Work,
    pace::timed,
    plan::{Micros, per_token, update},
};
use crate::{
    Error, Gradients, RewardInputs, RewardRecipe, Silent, Trainable, Tuning,
    reward::{Features, Pairs, Reader, Split, Trained, split},
};

/// Pairs that are read without gradients to see how fast that is.
const READ: usize = 16;

impl RewardRecipe {
    /// What a run on `rows` would be; `eval_rows` are held out.
    ///
    /// # Errors
    /// As [`reward`](fn@crate::reward).
    pub fn plan(
        &self,
        sizes: Sizes<'_>,
        tokenizer: &Tokenizer,
        rows: &Rows<PreferenceRow>,
        eval_rows: Option<&Rows<PreferenceRow>>,
    ) -> Result<Plan, Error> {
        self.validate()?;
        let reader = match sizes.body {
            Body::Encoder(config) => Reader { pairs: true, longest: config.longest() },
            Body::Decoder(config) => {
                Reader { pairs: false, longest: config.longest().unwrap_or(config.max_position_embeddings) }
            }
        };
        let Split { train, held_out, notes } = split(self, reader, tokenizer, (rows, eval_rows), None, &mut Silent)?;
        let shared = self.as_recipe();
        let micros = Micros::of(&shared, train.len());
        let hidden = match sizes.body {
            Body::Decoder(config) => config.hidden_size,
            Body::Encoder(config) => config.hidden_size,
        };
        let is_head = self.tuning == Tuning::Head;
        let work = Work {
            // An encoder's head has a layer of its own.
            trained: is_head.then_some(hidden * if reader.pairs { hidden } else { 1 }),
            tokens: micros.iter().map(|micro| tokens(&train, &micro)).max().filter(|_| !is_head),
            cached: Some(Trained::TOKENS),
            scores: true,
            features: if is_head { train.len() * 2 * hidden } else { 0 },
            ..Work::default()
        };
        Ok(Plan {
            training: train.len(),
            held_out: held_out.len(),
            longest: (0..train.len()).map(|pair| train.longer(pair)).max().unwrap_or(0),
            steps: micros.steps,
            notes,
            footprint: Footprint::of_work(&shared, sizes, work),
        })
    }

    /// How fast this machine does the first steps: as many micro-batches as `budget` has time for, no weight being changed.
    ///
    /// # Errors
    /// As [`reward`](fn@crate::reward).
    pub fn tried(&self, inputs: RewardInputs, budget: Duration) -> Result<Trial, Error> {
        let RewardInputs { model, tokenizer, rows, eval_rows, .. } = inputs;
        let model = self.prepared(model, &tokenizer)?;
        let rows = (&rows, eval_rows.as_ref());
        let Split { train, held_out, .. } = split(self, Reader::of(&model), &tokenizer, rows, None, &mut Silent)?;
        let (shared, trained) = (self.as_recipe(), Trained::new(self, model)?);
        let (micros, parameters) = (Micros::of(&shared, train.len()), trained.initial());
        let some = train.first(READ)?;
        let read =
            |pairs: &Pairs| (0..pairs.len()).map(|pair| pairs.length(pair, 0) + pairs.length(pair, 1)).sum::<usize>();
        let (_, reading) = timed(|| trained.scores(&parameters, &some, &mut Silent))?;
        let forward = reading.as_secs_f64() / read(&some).max(1) as f64;
        let features = match self.tuning {
            Tuning::Head => Features::of(&trained.model, &some, RowFile::temporary(), &mut Silent)?,
            Tuning::Lora | Tuning::Full => None,
        };
        let mut gradients = Gradients::default();
        let each = per_token(micros.iter(), budget, |places| {
            gradients = Gradients::default();
            let (from, micro): (&Pairs, Vec<usize>) = match features {
                Some(_) => (&some, places.iter().map(|place| place % some.len()).collect()),
                None => (&train, places),
            };
            let pairs = from.some(&micro)?;
            let (leaves, mut grads, _) = match &features {
                Some(features) => trained.head_backward(&parameters, &features.some(&micro)?, &pairs, 1.0)?,
                None => trained.backward(&parameters, &pairs, 1.0, self.seed)?,
            };
            gradients.add(&leaves, &mut grads);
            Ok(tokens(from, &micro))
        })?;
        let trainable = parameters.count();
        let update = update(Trainable::Full(parameters), &shared, gradients)?;
        let all: usize = micros.iter().map(|places| tokens(&train, &places)).sum();
        let steps = micros.steps;
        let per_step = all as f64 / steps.max(1) as f64;
        let pace = Pace {
            once: if features.is_some() { forward * read(&train) as f64 } else { 0.0 },
            train: each * per_step + update,
            evaluate: forward * read(&held_out) as f64,
            evaluations: u64::from(!held_out.is_empty()),
            steps,
            tokens: per_step as usize,
            length: read(&train) as f64 / (2 * train.len().max(1)) as f64,
            sampled: 1.0,
            ..Pace::default()
        };
        Ok(Trial { trainable, pace })
    }
}

/// Of both sides, padding included.
fn tokens(pairs: &Pairs, places: &[usize]) -> usize {
    2 * places.len() * places.iter().map(|&place| pairs.longer(place)).max().unwrap_or(0)
}
