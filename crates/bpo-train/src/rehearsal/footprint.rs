//! How much memory a run takes, by what it keeps: no model is needed, only its configuration.
use bpo_model::DecoderConfig;
use serde::Serialize;

use super::{Body, Sizes};
use crate::Recipe;

/// Bytes of a run, part by part. Activations are those of f32; frozen matrices may be half of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Footprint {
    /// The frozen model.
    pub weights: u64,
    /// What is trained: its values, gradients, AdamW's two moments, the snapshots that differ from it, and the bytes of a
    /// checkpoint on its way to disk.
    pub trained: u64,
    /// While sampling: the copy of the weights into which an adapter is folded.
    pub folded: u64,
    /// While sampling: keys and values of the rows that are decoded together. Of a reward model: a layer's activations of the
    /// texts that are read together.
    pub cache: u64,
    /// While training: what the backward pass of a micro-batch keeps.
    pub activations: u64,
    /// While training: logits of the rows that the head is applied to at a time.
    pub head: u64,
    /// Bytes that the backward pass keeps per token.
    pub per_token: u64,
}

/// The program with its tokenizer, data and buffers.
const PROGRAM: u64 = 32 << 20;
/// Rows that the head is applied to at a time, and how many tensors of that shape live at once.
const HEAD_ROWS: usize = 128;
const HEAD_TENSORS: usize = 3;
const F32: usize = size_of::<f32>();

/// Sizes that a recipe and its data decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Longest prompt that is trained on, in tokens.
    pub prompt: usize,
    /// Longest completion, in tokens.
    pub completion: usize,
    /// Bytes per element of frozen matrices.
    pub weight_bytes: usize,
}

/// What else a run keeps, beside its model and what it trains of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    /// Numbers that are trained, where that is neither a LoRA branch of every layer nor all of the model.
    pub trained: Option<usize>,
    /// Snapshots that differ from what is trained.
    pub snapshots: usize,
    /// Tokens of the largest micro-batch.
    pub tokens: Option<usize>,
    /// Tokens that are decoded together, or read together without gradients.
    pub cached: Option<usize>,
    /// A reward model: no head over the vocabulary.
    pub scores: bool,
    /// Numbers that are kept of the data.
    pub features: usize,
}

impl Footprint {
    /// Of a run of `recipe` on a model of `parameters` numbers.
    pub fn of(recipe: &Recipe, config: &DecoderConfig, parameters: usize, load: Load) -> Self {
        let Load { prompt, completion, weight_bytes } = load;
        let work = Work {
            // Behaviour and start; and the reference.
            snapshots: 2 + usize::from(recipe.reference.is_tracked()),
            tokens: Some((prompt + 2 * completion) * recipe.per_device_train_batch_size),
            cached: Some(recipe.per_device_eval_batch_size * (prompt + completion)),
            ..Work::default()
        };
        Self::of_work(recipe, Sizes { body: Body::Decoder(config), parameters, weight_bytes }, work)
    }

    /// Of a run with the keys that runs of all kinds share.
    pub(super) fn of_work(recipe: &Recipe, sizes: Sizes<'_>, work: Work) -> Self {
        let Sizes { body, parameters, weight_bytes } = sizes;
        let (layer, layers, vocabulary) = (Layer::of(body), body.layers(), body.vocabulary());
        let trained = match (work.trained, recipe.use_peft) {
            (Some(trained), _) => trained,
            (None, true) => layer.lora(recipe.lora_r) * layers * recipe.ensemble_size,
            (None, false) => parameters,
        };
        // Values, gradients and two moments; what is being updated or written.
        let copies = 4 + work.snapshots + 3;
        let folds = recipe.use_peft && work.cached.is_some() && weight_bytes == F32;
        let tokens = work.tokens.unwrap_or(0);
        let per_token = layer.kept(recipe);
        let activations = match recipe.gradient_checkpointing {
            true => tokens * (layer.hidden * layers + per_token) * F32,
            false => tokens * per_token * layers * F32,
        };
        // A reward model reads; a language model keeps keys and values of what it has written.
        let cached = work.cached.unwrap_or(0) * if work.scores { layer.kept(recipe) } else { layer.cached() * layers };
        let head = if work.scores { 0 } else { HEAD_ROWS * vocabulary * HEAD_TENSORS * F32 };
        Self {
            weights: (parameters * weight_bytes) as u64,
            trained: ((trained * copies + work.features) * F32) as u64,
            folded: if folds { (layer.linear() * layers * F32) as u64 } else { 0 },
            cache: (cached * F32) as u64,
            activations: activations as u64,
            head: head as u64,
            per_token: (activations / tokens.max(1)) as u64,
        }
    }

    /// Bytes at the fullest moment: sampling and training do not overlap.
    pub fn peak(&self) -> u64 {
        let (sampling, training) = (self.folded + self.cache, self.activations + self.head);
        PROGRAM + self.weights + self.trained + sampling.max(training)
    }
}

impl Body<'_> {
    fn layers(self) -> usize {
        match self {
            Self::Decoder(config) => config.num_hidden_layers,
            Self::Encoder(config) => config.num_hidden_layers,
        }
    }

    fn vocabulary(self) -> usize {
        match self {
            Self::Decoder(config) => config.vocab_size,
            Self::Encoder(config) => config.vocab_size,
        }
    }

    /// Numbers in the matrices of a new model of this shape.
    pub fn parameters(self) -> usize {
        let layer = Layer::of(self);
        let embeddings = match self {
            Self::Decoder(config) if !config.tie_word_embeddings => 2,
            _ => 1,
        };
        layer.linear() * self.layers() + embeddings * self.vocabulary() * layer.hidden
    }
}

/// Widths of one layer.
struct Layer {
    hidden: usize,
    feed_forward: usize,
    queries: usize,
    keys: usize,
    gated: bool,
}

impl Layer {
    fn of(body: Body<'_>) -> Self {
        match body {
            Body::Decoder(config) => Self {
                hidden: config.hidden_size,
                feed_forward: config.intermediate_size,
                queries: config.num_attention_heads * config.head_dim,
                keys: config.num_key_value_heads * config.head_dim,
                gated: config.gated,
            },
            Body::Encoder(config) => Self {
                hidden: config.hidden_size,
                feed_forward: config.intermediate_size,
                queries: config.hidden_size,
                keys: config.hidden_size,
                gated: false,
            },
        }
    }

    /// Inputs and outputs of its linear layers.
    fn shapes(&self) -> Vec<[usize; 2]> {
        let Self { hidden, feed_forward, queries, keys, gated } = *self;
        let mut shapes = vec![[hidden, queries], [hidden, keys], [hidden, keys], [queries, hidden]];
        shapes.extend(vec![[hidden, feed_forward]; 1 + usize::from(gated)]);
        shapes.push([feed_forward, hidden]);
        shapes
    }

    fn linear(&self) -> usize {
        self.shapes().iter().map(|[inputs, outputs]| inputs * outputs).sum()
    }

    fn lora(&self, rank: usize) -> usize {
        self.shapes().iter().map(|[inputs, outputs]| rank * (inputs + outputs)).sum()
    }

    /// Numbers that the backward pass keeps of a token: the residual stream and what is normalised of it, twice; the
    /// feed-forward block's branches and their product; queries, keys, values and the mix of attention.
    fn kept(&self, recipe: &Recipe) -> usize {
        let Self { hidden, feed_forward, queries, keys, gated } = *self;
        let branches = 2 + usize::from(gated);
        let plain = 4 * hidden + branches * feed_forward + 2 * queries + 2 * keys;
        // Dropout makes every branch's input a tensor of its own.
        let dropped = match recipe.use_peft && recipe.lora_dropout > 0.0 {
            true => self.shapes().iter().map(|[inputs, _]| inputs).sum(),
            false => 0,
        };
        plain + dropped
    }

    /// Numbers that the cache holds of a token.
    fn cached(&self) -> usize {
        2 * self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smollm2() -> DecoderConfig {
        let json = br#"{"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": true}"#;
        DecoderConfig::from_json("config.json".as_ref(), json).unwrap()
    }

    fn mib(bytes: u64) -> u64 {
        bytes >> 20
    }

    /// The step of docs/performance.md: 8 prompts of about 60 tokens × 2 × 64 tokens; it peaked at 2.0 GiB, of which
    /// 0.5 are weights, 0.4 the folded copy, and 1.0 MB a token activations.
    #[test]
    fn the_measured_step_of_smollm2_is_estimated_within_a_fifth() {
        let load = Load { prompt: 60, completion: 64, weight_bytes: 4 };
        let recipe = Recipe { lora_dropout: 0.0, ..Recipe::default() };
        let footprint = Footprint::of(&recipe, &smollm2(), 134_515_008, load);
        assert_eq!((mib(footprint.weights), mib(footprint.folded)), (513, 405));
        assert!((1_000_000..1_060_000).contains(&footprint.per_token), "{footprint:?}");
        assert!((1_650..2_450).contains(&mib(footprint.peak())), "{footprint:?}");
    }

    #[test]
    fn every_saving_saves() {
        let load = Load { prompt: 60, completion: 64, weight_bytes: 4 };
        let of = |recipe: &Recipe, load| Footprint::of(recipe, &smollm2(), 134_515_008, load).peak();
        let plain = Recipe::default();
        let full = of(&plain, load);
        assert!(of(&Recipe { gradient_checkpointing: true, ..plain.clone() }, load) < full);
        assert!(of(&Recipe { per_device_train_batch_size: 4, ..plain.clone() }, load) < full);
        assert!(of(&Recipe { lora_dropout: 0.0, ..plain.clone() }, load) < full);
        assert!(of(&plain, Load { weight_bytes: 2, ..load }) < full);
        assert!(of(&plain, Load { completion: 32, ..load }) < full);
        assert!(of(&Recipe { use_peft: false, ..plain }, load) > full);
    }
}
