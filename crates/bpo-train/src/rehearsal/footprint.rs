//! How much memory a run takes, by what it keeps: no model is needed, only its configuration.
use bpo_model::DecoderConfig;
use serde::Serialize;

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
    /// While sampling: keys and values of the rows that are decoded together.
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

impl Footprint {
    /// Of a run of `recipe` on a model of `parameters` numbers.
    pub fn of(recipe: &Recipe, config: &DecoderConfig, parameters: usize, load: Load) -> Self {
        let layer = Layer::of(config);
        let trained = match recipe.use_peft {
            true => layer.lora(recipe.lora_r) * config.num_hidden_layers * recipe.ensemble_size,
            false => parameters,
        };
        // Values, gradients and two moments; behaviour, start and reference; what is being written.
        let copies = 4 + 2 + usize::from(recipe.reference.is_tracked()) + 3;
        let weights = parameters * load.weight_bytes;
        let folds = recipe.use_peft && load.weight_bytes == F32;
        let rows = recipe.per_device_eval_batch_size;
        let pair = load.prompt + 2 * load.completion;
        let tokens = pair * recipe.per_device_train_batch_size;
        let per_token = layer.kept(recipe);
        let activations = match recipe.gradient_checkpointing {
            true => tokens * (config.hidden_size * config.num_hidden_layers + per_token) * F32,
            false => tokens * per_token * config.num_hidden_layers * F32,
        };
        Self {
            weights: weights as u64,
            trained: (trained * copies * F32) as u64,
            folded: if folds { (layer.linear() * config.num_hidden_layers * F32) as u64 } else { 0 },
            cache: (rows * (load.prompt + load.completion) * layer.cached() * config.num_hidden_layers * F32) as u64,
            activations: activations as u64,
            head: (HEAD_ROWS * config.vocab_size * HEAD_TENSORS * F32) as u64,
            per_token: (activations / tokens.max(1)) as u64,
        }
    }

    /// Bytes at the fullest moment: sampling and training do not overlap.
    pub fn peak(&self) -> u64 {
        let (sampling, training) = (self.folded + self.cache, self.activations + self.head);
        PROGRAM + self.weights + self.trained + sampling.max(training)
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
    fn of(config: &DecoderConfig) -> Self {
        Self {
            hidden: config.hidden_size,
            feed_forward: config.intermediate_size,
            queries: config.num_attention_heads * config.head_dim,
            keys: config.num_key_value_heads * config.head_dim,
            gated: config.gated,
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
