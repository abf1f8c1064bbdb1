use super::{Activation, Architecture, DecoderConfig, Keys, NormKind, PositionKind, Residual};
use crate::Error;

/// What transformers assumes when a key is absent, where families differ.
pub(super) struct Defaults {
    pub kv_heads: Option<usize>,
    pub head_dim: Option<usize>,
    pub positions: usize,
}

impl Keys<'_> {
    /// Llama, Mistral and Qwen.
    pub(super) fn llama(&self, architecture: Architecture) -> Result<DecoderConfig, Error> {
        let (kv_heads, head_dim, positions) = match architecture {
            Architecture::Mistral => (Some(8), None, 131_072),
            Architecture::Qwen2 => (Some(32), None, 32_768),
            Architecture::Qwen3 => (Some(32), Some(128), 32_768),
            _ => (None, None, 2048),
        };
        let common = self.common(architecture, &Defaults { kv_heads, head_dim, positions })?;
        let biased = self.flag("attention_bias")?.unwrap_or(false);
        Ok(DecoderConfig {
            rope: self.rope()?,
            activation: self.activation(&["hidden_act"], "silu")?,
            qkv_bias: match architecture {
                Architecture::Qwen2 => true,
                Architecture::Mistral => false,
                _ => biased,
            },
            output_bias: biased && !matches!(architecture, Architecture::Qwen2 | Architecture::Mistral),
            mlp_bias: architecture == Architecture::Llama && self.flag("mlp_bias")?.unwrap_or(false),
            qk_norm: architecture == Architecture::Qwen3,
            windows: self.windows(architecture, common.num_hidden_layers)?,
            ..common
        })
    }

    /// The keys that Llama and its descendants share; the rest as Llama has it.
    pub(super) fn common(&self, architecture: Architecture, defaults: &Defaults) -> Result<DecoderConfig, Error> {
        let heads = self.required("num_attention_heads")?;
        let hidden = self.required("hidden_size")?;
        let kv_default = if self.has("num_key_value_heads") { heads } else { defaults.kv_heads.unwrap_or(heads) };
        let head_dim = match (self.size("head_dim")?, defaults.head_dim) {
            (Some(dim), _) => dim,
            (None, Some(dim)) if !self.is_given("head_dim") => dim,
            _ => self.divided(["hidden_size", "num_attention_heads"], hidden, heads)?,
        };
        let layers = self.required("num_hidden_layers")?;
        Ok(DecoderConfig {
            architecture,
            vocab_size: self.required("vocab_size")?,
            hidden_size: hidden,
            intermediate_size: self.required("intermediate_size")?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: self.size("num_key_value_heads")?.unwrap_or(kv_default),
            head_dim,
            max_position_embeddings: self.size("max_position_embeddings")?.unwrap_or(defaults.positions),
            norm: NormKind::Rms,
            norm_eps: self.number(self.raw, "rms_norm_eps")?.unwrap_or(1e-6),
            residual: Residual::Sequential,
            positions: PositionKind::Rotary,
            rope: super::Rope { theta: 10_000.0, scaling: super::RopeScaling::Default },
            local_rope: None,
            rotary_dim: head_dim,
            attention_scale: (head_dim as f64).powf(-0.5),
            inverse_layer_scale: false,
            attention_softcap: None,
            logit_softcap: None,
            activation: Activation::Silu,
            gated: true,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
            tie_word_embeddings: self.flag("tie_word_embeddings")?.unwrap_or(false),
            windows: Vec::new(),
            embedding_scale: None,
            pad_token_id: self.pad_token_id(None)?,
            num_labels: self.num_labels()?,
            raw: self.raw.clone(),
        })
    }

    fn windows(&self, architecture: Architecture, layers: usize) -> Result<Vec<Option<usize>>, Error> {
        let given = || self.window();
        let window = match architecture {
            Architecture::Mistral if !self.is_given("sliding_window") => Some(4096),
            Architecture::Mistral => given()?,
            Architecture::Qwen2 | Architecture::Qwen3 if self.flag("use_sliding_window")? == Some(true) => {
                Some(given()?.unwrap_or(4096))
            }
            _ => None,
        };
        if window.is_none() || architecture == Architecture::Mistral {
            return Ok(vec![window; bounded(layers)]);
        }
        if let Some(windows) = self.typed_windows(layers, window)? {
            return Ok(windows);
        }
        let first = self.size("max_window_layers")?.unwrap_or(28);
        Ok((0..bounded(layers)).map(|layer| window.filter(|_| layer >= first)).collect())
    }
}

/// An absurd number of layers is refused by name later on, and must not be allocated for until then.
pub(super) fn bounded(layers: usize) -> usize {
    layers.min(1 << 13)
}
