use bpo_kernels::Heads;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Error;

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
}

/// Every `model_type` that is read, for error messages.
const MODEL_TYPES: &str = "model_type llama, mistral, qwen2, qwen3, gemma";

/// Nonlinearity of the gated feed-forward block.
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

/// How rotary frequencies are changed for long contexts.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    /// Width of a head; even.
    pub head_dim: usize,
    /// Positions the model was trained for.
    pub max_position_embeddings: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Their scaling.
    pub rope_scaling: RopeScaling,
    /// Feed-forward nonlinearity.
    pub activation: Activation,
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
    /// RMSNorm multiplies by 1 + weight (Gemma).
    pub unit_offset_norm: bool,
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
    /// [`Error::Io`], [`Error::Json`]; [`Error::Unsupported`] naming the key for anything that would
    /// otherwise be computed wrongly.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        Self::from_json(&path, &bytes)
    }

    /// As [`DecoderConfig::from_dir`], from bytes; `path` names them in errors.
    ///
    /// # Errors
    /// As [`DecoderConfig::from_dir`].
    pub fn from_json(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let raw = serde_json::from_slice(bytes)
            .map_err(|error| Error::Json { path: path.to_path_buf(), reason: error.to_string() })?;
        let config = Keys { path: path.to_path_buf(), raw: &raw }.read()?;
        Ok(config)
    }

    /// The attention heads of every layer.
    pub(crate) fn heads(&self) -> Heads {
        Heads::new(self.num_attention_heads, self.num_key_value_heads, self.head_dim)
    }
}

/// `config.json` with errors that name its keys.
struct Keys<'a> {
    path: PathBuf,
    raw: &'a Value,
}

impl Keys<'_> {
    fn read(&self) -> Result<DecoderConfig, Error> {
        let architecture = self.architecture()?;
        self.refuse_what_is_not_computed()?;
        let defaults = Defaults::of(architecture);
        let heads = self.size("num_attention_heads")?.ok_or_else(|| self.missing("num_attention_heads"))?;
        let hidden = self.required("hidden_size")?;
        let kv_heads = self.size("num_key_value_heads")?.unwrap_or(if self.has("num_key_value_heads") {
            heads
        } else {
            defaults.kv_heads.unwrap_or(heads)
        });
        let head_dim = self.head_dim(&defaults, hidden, heads)?;
        let layers = self.required("num_hidden_layers")?;
        let gemma = architecture == Architecture::Gemma;
        let attention_bias = self.flag("attention_bias")?.unwrap_or(false);
        let config = DecoderConfig {
            architecture,
            vocab_size: self.required("vocab_size")?,
            hidden_size: hidden,
            intermediate_size: self.required("intermediate_size")?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            max_position_embeddings: self.size("max_position_embeddings")?.unwrap_or(defaults.positions),
            rms_norm_eps: self.number(self.raw, "rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta: self.rope_theta()?,
            rope_scaling: self.rope_scaling()?,
            activation: self.activation(gemma)?,
            qkv_bias: match architecture {
                Architecture::Qwen2 => true,
                Architecture::Mistral => false,
                _ => attention_bias,
            },
            output_bias: attention_bias && !matches!(architecture, Architecture::Qwen2 | Architecture::Mistral),
            mlp_bias: architecture == Architecture::Llama && self.flag("mlp_bias")?.unwrap_or(false),
            qk_norm: architecture == Architecture::Qwen3,
            tie_word_embeddings: self.flag("tie_word_embeddings")?.unwrap_or(gemma),
            windows: self.windows(architecture, layers)?,
            unit_offset_norm: gemma,
            embedding_scale: gemma.then(|| (hidden as f64).sqrt()),
            pad_token_id: self.pad_token_id(gemma)?,
            num_labels: self.num_labels()?,
            raw: self.raw.clone(),
        };
        self.check(&config)?;
        Ok(config)
    }

    fn architecture(&self) -> Result<Architecture, Error> {
        let Some(model_type) = self.raw.get("model_type").and_then(Value::as_str) else {
            return Err(self.json("it has no \"model_type\"; is this a Hugging Face model directory?"));
        };
        match model_type {
            "llama" => Ok(Architecture::Llama),
            "mistral" => Ok(Architecture::Mistral),
            "qwen2" => Ok(Architecture::Qwen2),
            "qwen3" => Ok(Architecture::Qwen3),
            "gemma" => Ok(Architecture::Gemma),
            other => Err(self.unsupported("model_type", other, MODEL_TYPES)),
        }
    }

    fn refuse_what_is_not_computed(&self) -> Result<(), Error> {
        if self.has("quantization_config") {
            return Err(self.unsupported("quantization_config", "{…}", "weights in f32, f16 or bf16"));
        }
        if self.flag("use_bidirectional_attention")? == Some(true) {
            return Err(self.unsupported("use_bidirectional_attention", "true", "causal attention"));
        }
        Ok(())
    }

    fn head_dim(&self, defaults: &Defaults, hidden: usize, heads: usize) -> Result<usize, Error> {
        match self.size("head_dim")? {
            Some(dim) => Ok(dim),
            None if self.raw.get("head_dim").is_none() && defaults.head_dim.is_some() => {
                Ok(defaults.head_dim.unwrap_or_default())
            }
            None if heads > 0 && hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => Err(self.json(&format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}"))),
        }
    }

    /// A non-empty `rope_scaling` beats `rope_parameters`, as in transformers.
    fn rope(&self) -> Option<&Value> {
        let filled =
            |key: &str| self.raw.get(key).filter(|value| value.as_object().is_some_and(|object| !object.is_empty()));
        filled("rope_scaling").or_else(|| filled("rope_parameters"))
    }

    fn rope_theta(&self) -> Result<f64, Error> {
        let nested = match self.rope() {
            Some(rope) => self.number(rope, "rope_theta")?,
            None => None,
        };
        Ok(match nested {
            Some(theta) => theta,
            None => self.number(self.raw, "rope_theta")?.unwrap_or(10_000.0),
        })
    }

    fn rope_scaling(&self) -> Result<RopeScaling, Error> {
        let Some(rope) = self.rope() else { return Ok(RopeScaling::Default) };
        if self.number(rope, "partial_rotary_factor")?.is_some_and(|share| share != 1.0) {
            return Err(self.unsupported("partial_rotary_factor", "≠ 1", "rotation of whole heads"));
        }
        let kind = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str).unwrap_or("default");
        let need =
            |key: &str| self.number(rope, key)?.ok_or_else(|| self.json(&format!("rope type {kind} needs \"{key}\"")));
        match kind {
            "default" if rope.as_object().is_some_and(|o| o.values().any(Value::is_object)) => {
                Err(self.unsupported("rope_parameters", "one per layer type", "one for all layers"))
            }
            "default" => Ok(RopeScaling::Default),
            "linear" => Ok(RopeScaling::Linear { factor: need("factor")? }),
            "llama3" => {
                let original = match self.number(self.raw, "original_max_position_embeddings")? {
                    Some(positions) => Some(positions),
                    None => self.number(rope, "original_max_position_embeddings")?,
                };
                Ok(RopeScaling::Llama3 {
                    factor: need("factor")?,
                    low_freq_factor: need("low_freq_factor")?,
                    high_freq_factor: need("high_freq_factor")?,
                    original_max_position_embeddings: match original {
                        Some(positions) => positions,
                        None => self.required("max_position_embeddings")? as f64,
                    },
                })
            }
            other => Err(self.unsupported("rope type", other, "default, linear, llama3")),
        }
    }

    fn activation(&self, gemma: bool) -> Result<Activation, Error> {
        let named = |key: &str| self.raw.get(key).and_then(Value::as_str);
        let name = if gemma {
            named("hidden_activation").or(named("hidden_act")).unwrap_or("gelu_pytorch_tanh")
        } else {
            named("hidden_act").unwrap_or("silu")
        };
        match name {
            "silu" | "swish" => Ok(Activation::Silu),
            // Gemma's first configs say "gelu" and mean the tanh form.
            "gelu" if gemma => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::Gelu),
            "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            other => Err(self.unsupported("hidden_act", other, "silu, gelu, gelu_pytorch_tanh, gelu_new, relu")),
        }
    }

    fn windows(&self, architecture: Architecture, layers: usize) -> Result<Vec<Option<usize>>, Error> {
        let given = self.size("sliding_window")?;
        let window = match architecture {
            Architecture::Mistral if !self.has("sliding_window") && self.raw.get("sliding_window").is_none() => {
                Some(4096)
            }
            Architecture::Mistral => given,
            Architecture::Qwen2 | Architecture::Qwen3 if self.flag("use_sliding_window")? == Some(true) => {
                Some(given.unwrap_or(4096))
            }
            _ => None,
        };
        if window == Some(0) {
            return Err(self.unsupported("sliding_window", "0", "a window of at least 1"));
        }
        let types = self.raw.get("layer_types").and_then(Value::as_array);
        match (window, types) {
            (None, _) => Ok(vec![None; layers]),
            (window, _) if architecture == Architecture::Mistral => Ok(vec![window; layers]),
            (window, Some(types)) => {
                if types.len() != layers {
                    return Err(self.json(&format!("layer_types has {} entries for {layers} layers", types.len())));
                }
                types.iter().map(|kind| self.layer_window(kind, window)).collect()
            }
            (window, None) => {
                let first = self.size("max_window_layers")?.unwrap_or(28);
                Ok((0..layers).map(|layer| window.filter(|_| layer >= first)).collect())
            }
        }
    }

    fn layer_window(&self, kind: &Value, window: Option<usize>) -> Result<Option<usize>, Error> {
        match kind.as_str() {
            Some("full_attention" | "attention") => Ok(None),
            Some("sliding_attention") => Ok(window),
            other => Err(self.unsupported(
                "layer_types",
                other.unwrap_or("not a string"),
                "full_attention, sliding_attention",
            )),
        }
    }

    fn pad_token_id(&self, gemma: bool) -> Result<Option<u32>, Error> {
        match self.raw.get("pad_token_id") {
            None => Ok(gemma.then_some(0)),
            Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64() {
                Some(-1) => Ok(None),
                Some(id) => u32::try_from(id).map(Some).map_err(|_| self.json("pad_token_id is not a token id")),
                None => Err(self.json("pad_token_id is not an integer")),
            },
        }
    }

    fn num_labels(&self) -> Result<usize, Error> {
        match self.raw.get("id2label").and_then(Value::as_object) {
            Some(labels) => Ok(labels.len()),
            None => Ok(self.size("num_labels")?.unwrap_or(2)),
        }
    }

    /// Sizes that multiply into allocations are bounded before anything is allocated.
    fn check(&self, config: &DecoderConfig) -> Result<(), Error> {
        let bounded = [
            ("vocab_size", config.vocab_size, 1 << 22),
            ("hidden_size", config.hidden_size, 1 << 17),
            ("intermediate_size", config.intermediate_size, 1 << 20),
            ("num_hidden_layers", config.num_hidden_layers, 1 << 12),
            ("num_attention_heads", config.num_attention_heads, 1 << 12),
            ("num_key_value_heads", config.num_key_value_heads, 1 << 12),
            ("head_dim", config.head_dim, 1 << 13),
            ("max_position_embeddings", config.max_position_embeddings, 1 << 30),
        ];
        for (key, value, limit) in bounded {
            if value == 0 || value > limit {
                return Err(self.unsupported(key, &value.to_string(), &format!("1 to {limit}")));
            }
        }
        if !config.num_attention_heads.is_multiple_of(config.num_key_value_heads) {
            let (heads, kv) = (config.num_attention_heads, config.num_key_value_heads);
            return Err(self.json(&format!("num_attention_heads {heads} is no multiple of num_key_value_heads {kv}")));
        }
        if !config.head_dim.is_multiple_of(2) {
            return Err(self.unsupported("head_dim", &config.head_dim.to_string(), "an even width"));
        }
        Ok(())
    }

    fn has(&self, key: &str) -> bool {
        self.raw.get(key).is_some_and(|value| !value.is_null())
    }

    fn number(&self, object: &Value, key: &str) -> Result<Option<f64>, Error> {
        match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number > 0.0 => Ok(Some(number)),
                _ => Err(self.json(&format!("\"{key}\" must be a number above 0, not {value}"))),
            },
        }
    }

    fn size(&self, key: &str) -> Result<Option<usize>, Error> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(size) => Ok(Some(size)),
                None => Err(self.json(&format!("\"{key}\" must be a whole number, not {value}"))),
            },
        }
    }

    fn required(&self, key: &str) -> Result<usize, Error> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_bool() {
                Some(flag) => Ok(Some(flag)),
                None => Err(self.json(&format!("\"{key}\" must be true or false, not {value}"))),
            },
        }
    }

    fn json(&self, reason: &str) -> Error {
        Error::Json { path: self.path.clone(), reason: reason.to_string() }
    }

    fn missing(&self, key: &str) -> Error {
        self.json(&format!("\"{key}\" is missing"))
    }

    fn unsupported(&self, key: &str, value: &str, supported: &str) -> Error {
        Error::Unsupported {
            path: self.path.clone(),
            key: key.to_string(),
            value: value.to_string(),
            supported: format!("supported: {supported}"),
        }
    }
}

/// What transformers assumes when a key is absent, where families differ.
struct Defaults {
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
    positions: usize,
}

impl Defaults {
    fn of(architecture: Architecture) -> Self {
        let (kv_heads, head_dim, positions) = match architecture {
            Architecture::Llama => (None, None, 2048),
            Architecture::Mistral => (Some(8), None, 131_072),
            Architecture::Qwen2 => (Some(32), None, 32_768),
            Architecture::Qwen3 => (Some(32), Some(128), 32_768),
            Architecture::Gemma => (Some(16), Some(256), 8192),
        };
        Self { kv_heads, head_dim, positions }
    }
}
