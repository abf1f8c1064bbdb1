use std::path::Path;

use bpo_kernels::Heads;
use serde_json::Value;

use super::names::{BERT, DEBERTA, DISTILBERT, Names, PAIR_RM, ROBERTA};
use crate::{Activation, Error, config::Keys};

/// Every `model_type` that is read, for error messages.
pub(crate) const MODEL_TYPES: [&str; 5] = ["bert", "roberta", "xlm-roberta", "distilbert", "deberta-v2"];

/// Tokens of a row where no position is learned: the scores of sixteen heads then take one gigabyte.
const LONGEST_RELATIVE: usize = 4096;

/// What `config.json` says of an encoder, with the defaults of transformers filled in and one spelling for each thing.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    pub(super) names: &'static Names,
    /// `bert`, `roberta`, …
    pub model_type: String,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Rows of the table of positions, where it is read.
    pub(crate) max_position_embeddings: usize,
    /// A learned vector for each position is added to the embeddings.
    pub(crate) learned_positions: bool,
    /// RoBERTa counts positions from `pad_token_id + 1`, and pads do not count.
    pub(super) counts_from_pad: Option<u32>,
    /// Rows of the table of token types; 0 is none.
    pub(super) type_vocab_size: usize,
    pub(super) norm_eps: f64,
    pub(super) activation: Activation,
    /// Between the two layers of the head; `None` is tanh.
    pub(super) head_activation: Option<Activation>,
    pub(super) relative: Option<RelativeConfig>,
    /// Hidden states that the head reads side by side.
    pub(crate) head_inputs: usize,
    /// Numbers that it makes.
    pub(crate) labels: usize,
    pub(crate) raw: Value,
}

/// DeBERTa's relative positions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RelativeConfig {
    /// Distances below are told apart, whichever their sign.
    pub span: usize,
    /// Distances beyond half the span share logarithmic buckets, up to this one.
    pub bucketed_to: Option<usize>,
    /// Queries look at positions.
    pub content_to_position: bool,
    /// Positions look at keys.
    pub position_to_content: bool,
    /// Positions are projected by the layers of the contents.
    pub shared: bool,
    /// The embeddings of positions are normalised.
    pub normed: bool,
}

impl EncoderConfig {
    /// Reads `DIR/config.json`; nothing where it is not an encoder's.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Json`]; [`Error::Unsupported`] naming the key for anything that would otherwise be
    /// computed wrongly.
    pub fn from_dir(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join("config.json");
        let raw = Keys::parse(&path, &std::fs::read(&path).map_err(Error::io(&path))?)?;
        Self::is_one(&raw).then(|| Self::read(&path, &raw)).transpose()
    }

    /// Whether `config.json` is an encoder's.
    pub(crate) fn is_one(raw: &Value) -> bool {
        raw.get("model_type").and_then(Value::as_str).is_some_and(|name| MODEL_TYPES.contains(&name))
    }

    pub(crate) fn read(path: &Path, raw: &Value) -> Result<Self, Error> {
        let keys = Keys::new(path, raw);
        let config = match keys.model_type()? {
            "bert" => keys.bert(&BERT)?,
            "distilbert" => keys.distilbert()?,
            "deberta-v2" => keys.deberta()?,
            _ => keys.roberta()?,
        };
        keys.check_sizes(&[
            ("vocab_size", config.vocab_size, 1 << 22),
            ("hidden_size", config.hidden_size, 1 << 17),
            ("intermediate_size", config.intermediate_size, 1 << 20),
            ("num_hidden_layers", config.num_hidden_layers, 1 << 12),
            ("num_attention_heads", config.num_attention_heads, 1 << 12),
            ("max_position_embeddings", config.max_position_embeddings, 1 << 24),
            ("type_vocab_size", config.type_vocab_size.max(1), 1 << 12),
        ])?;
        keys.divided(["hidden_size", "num_attention_heads"], config.hidden_size, config.num_attention_heads)?;
        Ok(config)
    }

    /// The same encoder with the head of PairRM (Jiang et al. 2023, arXiv:2306.02561): a layer over the hidden states of the
    /// prompt's and of a response's mark, tanh, and a number for each task.
    pub(crate) fn pair_rm(self) -> Self {
        Self { names: &PAIR_RM, head_inputs: 2, head_activation: None, ..self }
    }

    /// The tensor that makes scores.
    pub(crate) fn scores(&self) -> &'static str {
        self.names.out_weight
    }

    /// Positions that it was trained for.
    pub fn context(&self) -> usize {
        let skipped = self.counts_from_pad.map_or(0, |pad| pad as usize + 1);
        self.max_position_embeddings.saturating_sub(skipped)
    }

    /// How many tokens a row may have at most. With relative positions alone there is no end, but attention's memory
    /// grows with the square.
    pub fn longest(&self) -> usize {
        if self.learned_positions { self.context() } else { self.context().max(LONGEST_RELATIVE) }
    }

    pub(crate) fn heads(&self) -> Heads {
        let heads = self.num_attention_heads;
        Heads::new(heads, heads, self.hidden_size / heads)
    }
}

impl Keys<'_> {
    fn bert(&self, names: &'static Names) -> Result<EncoderConfig, Error> {
        for key in ["position_embedding_type", "is_decoder", "add_cross_attention"] {
            let value = self.raw.get(key).filter(|v| !matches!(v, Value::Null | Value::Bool(false)));
            if let Some(value) = value.filter(|value| value.as_str() != Some("absolute")) {
                return Err(self.unsupported(key, &value.to_string(), "encoders with absolute positions"));
            }
        }
        Ok(EncoderConfig {
            names,
            model_type: self.model_type()?.to_string(),
            vocab_size: self.required("vocab_size")?,
            hidden_size: self.required("hidden_size")?,
            intermediate_size: self.required("intermediate_size")?,
            num_hidden_layers: self.required("num_hidden_layers")?,
            num_attention_heads: self.required("num_attention_heads")?,
            max_position_embeddings: self.size("max_position_embeddings")?.unwrap_or(512),
            learned_positions: true,
            counts_from_pad: None,
            type_vocab_size: self.size("type_vocab_size")?.unwrap_or(2),
            norm_eps: self.number(self.raw, "layer_norm_eps")?.unwrap_or(1e-12),
            activation: self.activation(&["hidden_act"], "gelu")?,
            head_activation: None,
            relative: None,
            head_inputs: 1,
            labels: 1,
            raw: self.raw.clone(),
        })
    }

    fn roberta(&self) -> Result<EncoderConfig, Error> {
        Ok(EncoderConfig { counts_from_pad: Some(self.pad_token_id(Some(1))?.unwrap_or(1)), ..self.bert(&ROBERTA)? })
    }

    fn distilbert(&self) -> Result<EncoderConfig, Error> {
        Ok(EncoderConfig {
            names: &DISTILBERT,
            model_type: self.model_type()?.to_string(),
            vocab_size: self.required("vocab_size")?,
            hidden_size: self.required("dim")?,
            intermediate_size: self.required("hidden_dim")?,
            num_hidden_layers: self.required("n_layers")?,
            num_attention_heads: self.required("n_heads")?,
            max_position_embeddings: self.size("max_position_embeddings")?.unwrap_or(512),
            learned_positions: true,
            counts_from_pad: None,
            type_vocab_size: 0,
            norm_eps: 1e-12,
            activation: self.activation(&["activation"], "gelu")?,
            head_activation: Some(Activation::Relu),
            relative: None,
            head_inputs: 1,
            labels: 1,
            raw: self.raw.clone(),
        })
    }

    /// He et al. 2021, arXiv:2111.09543.
    fn deberta(&self) -> Result<EncoderConfig, Error> {
        let common = self.bert(&DEBERTA)?;
        if self.flag("relative_attention")? != Some(true) {
            return Err(self.unsupported("relative_attention", "false", "true"));
        }
        if self.size("conv_kernel_size")?.is_some_and(|size| size > 0) {
            return Err(self.unsupported("conv_kernel_size", "above 0", "encoders without a convolution"));
        }
        for key in ["embedding_size", "pooler_hidden_size", "attention_head_size"] {
            let expected = match key {
                "attention_head_size" => common.hidden_size / common.num_attention_heads.max(1),
                _ => common.hidden_size,
            };
            if let Some(size) = self.size(key)?.filter(|size| *size != expected) {
                return Err(self.unsupported(key, &size.to_string(), &expected.to_string()));
            }
        }
        let relative = self.relative(common.max_position_embeddings)?;
        Ok(EncoderConfig {
            learned_positions: self.flag("position_biased_input")?.unwrap_or(true),
            type_vocab_size: self.size("type_vocab_size")?.unwrap_or(0),
            norm_eps: self.number(self.raw, "layer_norm_eps")?.unwrap_or(1e-7),
            head_activation: match self.raw.get("pooler_hidden_act").and_then(Value::as_str) {
                Some("tanh") => None,
                _ => Some(self.activation(&["pooler_hidden_act"], "gelu")?),
            },
            relative: Some(relative),
            ..common
        })
    }

    fn relative(&self, positions: usize) -> Result<RelativeConfig, Error> {
        // Both are -1 where they are not set.
        let above_zero = |key: &str| match self.raw.get(key).and_then(Value::as_i64) {
            Some(..=0) => Ok(None),
            _ => self.size(key),
        };
        let farthest = above_zero("max_relative_positions")?.unwrap_or(positions);
        let buckets = above_zero("position_buckets")?;
        let span = buckets.unwrap_or(farthest);
        self.check_sizes(&[("max_relative_positions", farthest, 1 << 24), ("position_buckets", span, 1 << 24)])?;
        let kinds = match self.raw.get("pos_att_type") {
            Some(Value::String(kinds)) => kinds.to_lowercase().split('|').map(|kind| kind.trim().to_string()).collect(),
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).map(str::to_string).collect(),
            None | Some(Value::Null) => Vec::new(),
            Some(other) => return Err(self.unsupported("pos_att_type", &other.to_string(), "c2p, p2c or both")),
        };
        // Logarithmic buckets lie between half of them and the farthest position.
        if let Some(buckets) = buckets.filter(|buckets| *buckets < 4 || farthest <= buckets / 2 + 1) {
            let limits = format!("4 or more, and fewer than twice the {farthest} positions");
            return Err(self.unsupported("position_buckets", &buckets.to_string(), &limits));
        }
        let has = |kind: &str| kinds.iter().any(|given| given == kind);
        let norms = self.raw.get("norm_rel_ebd").and_then(Value::as_str).unwrap_or("none").to_lowercase();
        Ok(RelativeConfig {
            span,
            bucketed_to: buckets.map(|_| farthest),
            content_to_position: has("c2p"),
            position_to_content: has("p2c"),
            shared: self.flag("share_att_key")?.unwrap_or(false),
            normed: norms.split('|').any(|norm| norm.trim() == "layer_norm"),
        })
    }
}
