//! What a run on given examples would be, known from its data and the model's configuration; and how fast it would go.
use std::time::{Duration, Instant};

use bpo_data::PromptOrder;
use bpo_model::{DecoderConfig, EncoderConfig};

use super::{Footprint, Pace, pace::timed};
use crate::{Error, Gradients, Recipe, Trainable, state::State};

/// A model as far as memory goes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes<'a> {
    /// What it is made of.
    pub body: Body<'a>,
    /// Numbers in its weights.
    pub parameters: usize,
    /// Bytes per element of frozen matrices.
    pub weight_bytes: usize,
}

/// A model's layers.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Of a language model, or of a reward model made from one.
    Decoder(&'a DecoderConfig),
    /// Of an encoder.
    Encoder(&'a EncoderConfig),
}

impl Body<'_> {
    /// Tokens that a row may have.
    pub(super) fn context(&self) -> usize {
        match self {
            Self::Decoder(config) => config.max_position_embeddings,
            Self::Encoder(config) => config.context(),
        }
    }
}

/// What a run would work on, known without its model's weights.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Examples that are trained on.
    pub training: usize,
    /// Prompts or pairs that are held out.
    pub held_out: usize,
    /// Tokens of the longest example.
    pub longest: usize,
    /// Steps.
    pub steps: u64,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// Memory.
    pub footprint: Footprint,
}

/// A run on given examples, tried out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Parameters that are trained.
    pub trainable: usize,
    /// How fast it goes.
    pub pace: Pace,
}

/// Seconds per token of `each`, which does one of `batches` and says how many tokens it had; for about `budget`, one batch
/// at least.
pub(super) fn per_token<B>(
    batches: impl Iterator<Item = B>,
    budget: Duration,
    mut each: impl FnMut(B) -> Result<usize, Error>,
) -> Result<f64, Error> {
    let (started, mut passes) = (Instant::now(), Vec::new());
    for batch in batches {
        let begun = Instant::now();
        let tokens = each(batch)?;
        passes.push((begun.elapsed().as_secs_f64(), tokens));
        if started.elapsed() >= budget {
            break;
        }
    }
    // The first pass of a program pays for fresh memory and cold caches.
    let kept = if passes.len() > 1 { &passes[1..] } else { &passes[..] };
    let (seconds, tokens) = kept.iter().fold((0.0, 0), |(s, t), (seconds, tokens)| (s + seconds, t + tokens));
    Ok(seconds / tokens.max(1) as f64)
}

/// Seconds of an update of `trained`, which is thrown away.
pub(super) fn update(trained: Trainable, recipe: &Recipe, gradients: Gradients) -> Result<f64, Error> {
    let mut state = State::solo(trained, recipe.adamw());
    let found = |what: String| Error::NonFinite { step: 0, what, prompts: Vec::new(), dump: None };
    let (_, took) = timed(|| state.ensemble.update(&[gradients], 0.0).map_err(found))?;
    Ok(took.as_secs_f64())
}

/// Micro-batches as a run of `recipe` over so many examples has them, step by step.
pub(super) struct Micros {
    order: PromptOrder,
    per_step: usize,
    size: usize,
    /// Steps of the run.
    pub steps: u64,
}

impl Micros {
    pub fn of(recipe: &Recipe, examples: usize) -> Self {
        let order = PromptOrder::new(examples, recipe.seed);
        let (per_step, size) = (recipe.prompts_per_step(), recipe.per_device_train_batch_size);
        Self { order, per_step, size, steps: recipe.steps(examples) }
    }

    /// Places of the examples of the first step.
    pub fn first_step(&self) -> Vec<usize> {
        self.order.at(0, self.per_step)
    }

    pub fn iter(&self) -> impl Iterator<Item = Vec<usize>> {
        (0..self.steps).flat_map(|step| {
            let batch = self.order.at(step, self.per_step);
            batch.chunks(self.size).map(<[usize]>::to_vec).collect::<Vec<_>>()
        })
    }
}
