//! Causal preference optimisation: texts with numeric outcomes instead of preferences. Read `Run::step` first.
mod losses;
mod outcome_model;
mod run;
mod scoring;
mod step;
mod texts;

pub use run::{CausalInputs, causal};

use bpo_data::Group;
use bpo_model::{Adapter, Decoder};

use self::losses::Losses;
pub(crate) use self::texts::{Text, Texts, texts};
use crate::{CausalRecipe, Error, Sample, Trainable};

/// A text of a step, with the completions of its prompt that the outcome model has scored.
#[derive(Debug, Clone)]
struct Item<'a> {
    text: &'a Text,
    /// Index among the training texts.
    index: usize,
    samples: Vec<(Sample, f64)>,
}

impl Item<'_> {
    /// The prompt with the logged completion and then the sampled ones.
    fn group(&self) -> Group<'_> {
        let sampled = self.samples.iter().map(|(sample, _)| sample.tokens.as_slice());
        Group {
            prompt: &self.text.prompt.ids,
            completions: std::iter::once(self.text.completion.as_slice()).chain(sampled).collect(),
        }
    }
}

/// Scores in the layouts' order, taken apart: of the logged texts, and of the samples.
fn split(items: &[Item<'_>], scores: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut texts, mut samples, mut at) = (Vec::new(), Vec::new(), 0);
    for item in items {
        let end = at + 1 + item.samples.len();
        texts.push(scores[at]);
        samples.extend(&scores[at + 1..end]);
        at = end;
    }
    (texts, samples)
}

/// The inverse of [`split`], for slopes.
fn joined(items: &[Item<'_>], losses: &Losses) -> Vec<f32> {
    let mut samples = losses.samples.iter();
    let slopes = |(item, text): (&Item<'_>, &f32)| {
        let own: Vec<f32> = samples.by_ref().take(item.samples.len()).copied().collect();
        std::iter::once(*text).chain(own).collect::<Vec<f32>>()
    };
    items.iter().zip(&losses.texts).flat_map(slopes).collect()
}

/// What the run trains, before step 0. LoRA keys that another adapter's shape overrules are refused.
pub(crate) fn start(recipe: &CausalRecipe, base: &Decoder, adapter: Option<Adapter>) -> Result<Trainable, Error> {
    let asked = recipe.as_recipe().lora();
    let Some(mut adapter) = adapter else {
        return Ok(match recipe.use_peft {
            true => Trainable::Lora(Adapter::new(base, asked, recipe.seed)?),
            false => Trainable::Full(base.parameters()),
        });
    };
    let default = CausalRecipe::default().as_recipe().lora();
    let without_dropout = |lora: &bpo_model::LoraConfig| bpo_model::LoraConfig { lora_dropout: 0.0, ..lora.clone() };
    if without_dropout(&asked) != without_dropout(&default) {
        let keys = "lora_r, lora_alpha, lora_target_modules and use_rslora";
        return Err(Error::Recipe(format!("{keys} have no effect: the adapter it starts from has its own")));
    }
    adapter.config.lora_dropout = recipe.lora_dropout;
    Ok(Trainable::Lora(adapter))
}
