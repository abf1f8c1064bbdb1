use bpo_kernels::Heads;
use std::path::Path;

use serde_json::Value;

use crate::{Checkpoint, Error};

mod gemma;
mod gpt2;
mod keys;
mod llama;
mod neox;
mod phi3;
mod rope;

pub(crate) use keys::Keys;

/// Model families this crate computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// `llama`: Llama 1–3, SmolLM, TinyLlama, …
    Llama,
    /// `mistral`: Llama with a sliding window.
    Mistral,
    /// `qwen2`: Llama with biases on q, k and v.
    Qwen2,
    /// `qwen3`: Llama with normalised queries and keys.
    Qwen3,
    /// `gemma`: Gemma 1.
    Gemma,
    /// `gemma2`: soft-capped scores and logits, windows in every other layer.
    Gemma2,
    /// `gemma3_text`: normalised queries and keys, windows in five layers of six with rotations of their own.
    Gemma3,
    /// `phi3`: Llama with q, k, v in one matrix, and gate and up in another.
    Phi3,
    /// `gpt2`: learned positions, LayerNorm, no gate.
    Gpt2,
    /// `gpt_neox`: attention and feed-forward block side by side, partly rotated heads (Pythia).
    GptNeox,
}

/// Every `model_type` that is read, for error messages.
pub(crate) const MODEL_TYPES: &str =
    "model_type llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3_text, phi3, gpt2, gpt_neox";

/// The most layers that are read.
const LAYERS: usize = 1 << 12;

/// Nonlinearity of the feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·σ(x).
    Silu,
    /// Gelu by erf.
    Gelu,
    /// Gelu by tanh.
    GeluTanh,
    /// max(0, x).
    Relu,
}

/// What normalises the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// x / √(mean x² + ε) · weight (Zhang & Sennrich 2019, arXiv:1910.07467).
    Rms,
    /// RMSNorm that multiplies by 1 + weight (Gemma).
    RmsUnitOffset,
    /// (x − mean) / √(variance + ε) · weight + bias (Ba et al. 2016, arXiv:1607.06450).
    Layer,
}

/// How attention and the feed-forward block of a layer meet the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// One after the other, each normalised before.
    Sequential,
    /// As `Sequential`, and what each adds is normalised once more (Gemma 2 and 3).
    Sandwich,
    /// Both read what the layer read (GPT-NeoX).
    Parallel,
}

/// How a model knows the order of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionKind {
    /// Rotated queries and keys: any position will do.
    Rotary,
    /// A learned vector for each position below `max_position_embeddings`.
    Learned,
}

/// How rotary frequencies are changed for long contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// Context the model was pre-trained with.
        original_max_position_embeddings: f64,
    },
    /// Not at all within the context; beyond it the base would grow with the length (dynamic NTK), which is not computed.
    Dynamic {
        /// Positions that the frequencies hold for.
        max_position_embeddings: usize,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071): low frequencies divided, high ones kept, a ramp between, and angles
    /// scaled.
    Yarn {
        /// The divisor of low frequencies.
        factor: f64,
        /// Cosines and sines are multiplied by this.
        attention_factor: f64,
        /// Frequencies that turn this often within the context are kept.
        beta_fast: f64,
        /// Frequencies that turn less often are divided.
        beta_slow: f64,
        /// The ramp begins and ends at whole columns.
        truncate: bool,
        /// Context the model was pre-trained with.
        original_max_position_embeddings: f64,
    },
    /// LongRoPE (Ding et al. 2024, arXiv:2402.13753): each frequency has a divisor of its own.
    LongRope {
        /// Divisors within the context of pre-training, one for two columns.
        short_factor: Vec<f64>,
        /// Those of longer sequences, which are computed only where they are the same.
        long_factor: Vec<f64>,
        /// Cosines and sines are multiplied by this.
        attention_factor: f64,
        /// Context the model was pre-trained with.
        original_max_position_embeddings: f64,
    },
}

/// Rotary frequencies of a kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Their scaling.
    pub scaling: RopeScaling,
}

impl Rope {
    /// How many positions the frequencies hold for, where others would have to be computed beyond.
    pub fn longest(&self) -> Option<usize> {
        match &self.scaling {
            RopeScaling::Dynamic { max_position_embeddings } => Some(*max_position_embeddings),
            RopeScaling::LongRope { short_factor, long_factor, original_max_position_embeddings, .. } => {
                (short_factor != long_factor).then_some(*original_max_position_embeddings as usize)
            }
            _ => None,
        }
    }
}

/// What `config.json` says, with the defaults of transformers filled in and one spelling for each thing.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// The family.
    pub architecture: Architecture,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Positions the model was trained for.
    pub max_position_embeddings: usize,
    /// What normalises.
    pub norm: NormKind,
    /// Added to the mean square or the variance in a norm.
    pub norm_eps: f64,
    /// How a layer adds to the residual stream.
    pub residual: Residual,
    /// How positions are told apart.
    pub positions: PositionKind,
    /// Rotary frequencies; nothing reads them with learned positions.
    pub rope: Rope,
    /// Those of layers with a window, where they are others (Gemma 3).
    pub local_rope: Option<Rope>,
    /// How many columns of each head are rotated, from the first on. Of an odd number the last is rotated with the column
    /// behind it, as transformers does.
    pub rotary_dim: usize,
    /// Scores of queries and keys are multiplied by this before the softmax.
    pub attention_scale: f64,
    /// Layer `i` divides that by `i + 1` (GPT-2's `scale_attn_by_inverse_layer_idx`).
    pub inverse_layer_scale: bool,
    /// Scores z become c·tanh(z/c) for this c.
    pub attention_softcap: Option<f64>,
    /// Logits z become c·tanh(z/c) for this c.
    pub logit_softcap: Option<f64>,
    /// Feed-forward nonlinearity.
    pub activation: Activation,
    /// The feed-forward block multiplies by a gate.
    pub gated: bool,
    /// Biases on the q, k and v projections.
    pub qkv_bias: bool,
    /// Bias on the output projection.
    pub output_bias: bool,
    /// Biases in the feed-forward block.
    pub mlp_bias: bool,
    /// RMSNorm of each query and key head before rotation.
    pub qk_norm: bool,
    /// The head is the embedding.
    pub tie_word_embeddings: bool,
    /// Per layer: how many positions back a query sees, itself included; `None` is all.
    pub windows: Vec<Option<usize>>,
    /// Embeddings are multiplied by this after look-up (Gemma: √hidden).
    pub embedding_scale: Option<f64>,
    /// Token id that pads rows, if any.
    pub pad_token_id: Option<u32>,
    /// Labels of a sequence-classification head.
    pub num_labels: usize,
    /// The file as it was, for writing it back.
    pub raw: Value,
}

impl DecoderConfig {
    /// Reads `DIR/config.json`, in the layout of transformers 4 or 5.
    ///
    /// # Errors
    /// [`Error::Files`], [`Error::Json`]; [`Error::Unsupported`] naming the key for anything that would
    /// otherwise be computed wrongly.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let bytes = bpo_files::read_json_file(&path)?;
        Self::from_json(&path, &bytes)
    }

    /// As [`DecoderConfig::from_dir`], from bytes; `path` names them in errors.
    ///
    /// # Errors
    /// As [`DecoderConfig::from_dir`].
    pub fn from_json(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let raw = Keys::parse(path, bytes)?;
        let config = Keys::new(path, &raw).decoder()?;
        Ok(config)
    }

    /// Whether the head of a language model in `checkpoint` is its embedding.
    pub fn is_tied_in(&self, checkpoint: &Checkpoint) -> bool {
        let names = self.architecture.names();
        let has = |path: &str| checkpoint.has(&format!("{path}.weight"));
        self.tie_word_embeddings && !(has(names.head) && has(names.embedding))
    }

    /// How many positions it can compute, where there is an end: a longer row is refused.
    pub fn longest(&self) -> Option<usize> {
        match self.positions {
            PositionKind::Learned => Some(self.max_position_embeddings),
            PositionKind::Rotary => self.rope.longest(),
        }
    }

    /// About how many scalars such a model has: its matrices without the head.
    pub(crate) fn scalars(&self) -> u64 {
        let [vocab, hidden, ffn, layers, heads, kv_heads, dim] = [
            self.vocab_size,
            self.hidden_size,
            self.intermediate_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.num_key_value_heads,
            self.head_dim,
        ]
        .map(|size| size as u64);
        // The bounds of sizes keep each layer below 2^45 and all of them below 2^57.
        let layer = hidden * (2 * heads * dim + 2 * kv_heads * dim + 3 * ffn);
        vocab * hidden + layers * layer
    }

    /// The attention heads of every layer.
    pub(crate) fn heads(&self) -> Heads {
        Heads::new(self.num_attention_heads, self.num_key_value_heads, self.head_dim)
    }

    /// What layer `index` multiplies its scores by.
    pub(crate) fn layer_scale(&self, index: usize) -> f64 {
        if self.inverse_layer_scale { self.attention_scale / (index + 1) as f64 } else { self.attention_scale }
    }
}

impl Keys<'_> {
    fn decoder(&self) -> Result<DecoderConfig, Error> {
        let model_type = self.model_type()?;
        if self.has("quantization_config") {
            return Err(self.unsupported("quantization_config", "{…}", "weights in f32, f16 or bf16"));
        }
        if self.flag("use_bidirectional_attention")? == Some(true) {
            return Err(self.unsupported("use_bidirectional_attention", "true", "causal attention"));
        }
        self.check_layers()?;
        let config = match model_type {
            "llama" => self.llama(Architecture::Llama)?,
            "mistral" => self.llama(Architecture::Mistral)?,
            "qwen2" => self.llama(Architecture::Qwen2)?,
            "qwen3" => self.llama(Architecture::Qwen3)?,
            "gemma" => self.gemma()?,
            "gemma2" => self.gemma2()?,
            "gemma3_text" => self.gemma3()?,
            "phi3" => self.phi3()?,
            "gpt2" => self.gpt2()?,
            "gpt_neox" => self.gpt_neox()?,
            other => return Err(self.unsupported("model_type", other, MODEL_TYPES)),
        };
        self.check(&config)?;
        // Beyond them a model of long contexts would need other frequencies, in the middle of a sequence.
        let within = config.longest().unwrap_or(usize::MAX).min(config.max_position_embeddings);
        Ok(DecoderConfig { max_position_embeddings: within, ..config })
    }

    /// Something is made for each layer before the other sizes are known.
    fn check_layers(&self) -> Result<(), Error> {
        for key in ["num_hidden_layers", "n_layer"] {
            if let Some(layers) = self.size(key)? {
                self.check_sizes(&[(key, layers, LAYERS)])?;
            }
        }
        Ok(())
    }

    /// Sizes that multiply into allocations are bounded before anything is allocated.
    fn check(&self, config: &DecoderConfig) -> Result<(), Error> {
        self.check_sizes(&[
            ("vocab_size", config.vocab_size, 1 << 22),
            ("hidden_size", config.hidden_size, 1 << 17),
            ("intermediate_size", config.intermediate_size, 1 << 20),
            ("num_hidden_layers", config.num_hidden_layers, LAYERS),
            ("num_attention_heads", config.num_attention_heads, 1 << 12),
            ("num_key_value_heads", config.num_key_value_heads, 1 << 12),
            ("head_dim", config.head_dim, 1 << 13),
            ("max_position_embeddings", config.max_position_embeddings, 1 << 30),
        ])?;
        if !config.num_attention_heads.is_multiple_of(config.num_key_value_heads) {
            let (heads, kv) = (config.num_attention_heads, config.num_key_value_heads);
            return Err(self.json(&format!("num_attention_heads {heads} is no multiple of num_key_value_heads {kv}")));
        }
        let rotary = config.rotary_dim;
        if config.positions == PositionKind::Rotary && (rotary == 0 || rotary.next_multiple_of(2) > config.head_dim) {
            let head = config.head_dim;
            let key = if rotary == head { "head_dim" } else { "partial_rotary_factor" };
            let value = if rotary == head { head.to_string() } else { format!("{rotary} of {head} columns") };
            return Err(self.unsupported(key, &value, "an even width, or one that leaves a column"));
        }
        let ropes = [Some(&config.rope), config.local_rope.as_ref()];
        ropes.into_iter().flatten().try_for_each(|rope| self.check_factors(rope, rotary.div_ceil(2)))
    }

    /// Each pair of rotated columns has a factor.
    fn check_factors(&self, rope: &Rope, pairs: usize) -> Result<(), Error> {
        let RopeScaling::LongRope { short_factor, long_factor, .. } = &rope.scaling else { return Ok(()) };
        match [("short_factor", short_factor), ("long_factor", long_factor)].iter().find(|(_, f)| f.len() != pairs) {
            Some((key, factors)) => Err(self.json(&format!("\"{key}\" has {} numbers for {pairs}", factors.len()))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(key: &str, value: Value) -> Result<DecoderConfig, Error> {
        let mut raw = json!({"model_type": "qwen2", "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "use_sliding_window": true});
        raw[key] = value;
        DecoderConfig::from_json(Path::new("config.json"), raw.to_string().as_bytes())
    }

    #[test]
    fn absurd_sizes_are_refused_by_name_before_anything_is_allocated() {
        assert!(read("num_labels", json!(1)).is_ok());
        let sizes = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];
        for key in sizes.into_iter().chain(["num_key_value_heads", "head_dim", "max_position_embeddings"]) {
            for value in [json!(0), json!((1_u64 << 30) + 1), json!(u64::MAX), json!(1_000_000_000_000_u64)] {
                let error = read(key, value.clone()).unwrap_err().to_string();
                assert!(error.contains(key), "{key} = {value}: {error}");
            }
        }
    }

    #[test]
    fn a_long_value_is_not_repeated_whole() {
        for (key, value) in [("model_type", json!("x".repeat(1 << 20))), ("vocab_size", json!(vec![1; 1 << 16]))] {
            assert!(read(key, value).unwrap_err().to_string().len() < 2000, "{key}");
        }
    }

    #[test]
    fn the_largest_sizes_are_counted_without_overflow() {
        let mut config = read("num_labels", json!(1)).unwrap();
        assert_eq!(config.scalars(), 8 * 8 + 8 * (2 * 8 + 2 * 4 + 3 * 8));
        (config.vocab_size, config.hidden_size, config.intermediate_size) = (1 << 22, 1 << 17, 1 << 20);
        (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads) =
            (1 << 12, 1 << 12, 1 << 12);
        config.head_dim = 1 << 13;
        assert!(config.scalars() > 1 << 50);
    }
}
