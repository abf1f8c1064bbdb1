//! Metadata as a `config.json`.
use bpo_files::gguf::Gguf;
use serde_json::{Map, Value, json};

use super::{model_type, values};
use crate::Error;

/// The `config.json` that a file was made of, as far as it can be told.
pub(super) fn config(gguf: &Gguf) -> Result<Value, Error> {
    let model_type = model_type(gguf)?;
    let keys = Meta { gguf, architecture: gguf.architecture()? };
    keys.refuse_what_is_not_computed()?;
    let mut config = match model_type {
        "gpt2" => keys.gpt2()?,
        "gpt_neox" => keys.gpt_neox()?,
        _ => keys.llama(model_type)?,
    };
    config.insert("model_type".into(), json!(model_type));
    config.insert("architectures".into(), json!([class(model_type)]));
    config.insert("vocab_size".into(), json!(keys.vocabulary()?));
    config.insert("tie_word_embeddings".into(), json!(!gguf.tensors.contains_key("output.weight")));
    for (key, name) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")] {
        // Its absence means something else to some families.
        config.insert(key.into(), json!(gguf.size(&format!("tokenizer.ggml.{name}_token_id"))?));
    }
    Ok(Value::Object(config))
}

/// The class of transformers.
fn class(model_type: &str) -> &'static str {
    match model_type {
        "qwen2" => "Qwen2ForCausalLM",
        "qwen3" => "Qwen3ForCausalLM",
        "gemma" => "GemmaForCausalLM",
        "gemma2" => "Gemma2ForCausalLM",
        "gemma3_text" => "Gemma3ForCausalLM",
        "phi3" => "Phi3ForCausalLM",
        "gpt2" => "GPT2LMHeadModel",
        "gpt_neox" => "GPTNeoXForCausalLM",
        _ => "LlamaForCausalLM",
    }
}

/// Metadata below a prefix.
struct Meta<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

type Config = Map<String, Value>;

impl Meta<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn size(&self, name: &str) -> Result<Option<usize>, Error> {
        Ok(self.gguf.size(&self.key(name))?)
    }

    fn needed(&self, name: &str) -> Result<usize, Error> {
        let key = self.key(name);
        self.gguf.size(&key)?.ok_or_else(|| self.gguf.error(format!("it has no {key}")).into())
    }

    fn number(&self, name: &str) -> Result<Option<f64>, Error> {
        Ok(self.gguf.number(&self.key(name))?)
    }

    fn unsupported(&self, name: &str, value: String, supported: &str) -> Error {
        let (path, supported) = (self.gguf.path.clone(), format!("supported: {supported}"));
        Error::Unsupported { path, key: self.key(name), value, supported }
    }

    fn refuse_what_is_not_computed(&self) -> Result<(), Error> {
        if let Some(parts) = self.gguf.size("split.count")?.filter(|parts| *parts > 1) {
            let reason = format!("it is one of {parts} parts; join them first (gguf-split --merge)");
            return Err(self.gguf.error(reason).into());
        }
        match self.size("expert_count")? {
            None | Some(0) => Ok(()),
            Some(experts) => Err(self.unsupported("expert_count", experts.to_string(), "models without experts")),
        }
    }

    /// Rows of the embedding, which the metadata may leave out.
    fn vocabulary(&self) -> Result<usize, Error> {
        let embedding = self.gguf.tensors.get("token_embd.weight").and_then(|tensor| tensor.shape.first());
        let missing = "it has no tensor token_embd.weight; is it a vocabulary alone?";
        embedding.copied().ok_or_else(|| self.gguf.error(missing.into()).into())
    }

    /// Whether the first layer has such a tensor; all layers are alike.
    fn has(&self, part: &str) -> bool {
        self.gguf.tensors.contains_key(&format!("blk.0.{part}"))
    }

    fn head_dim(&self) -> Result<usize, Error> {
        let (hidden, heads) = (self.needed("embedding_length")?, self.needed("attention.head_count")?);
        let key = self.size("attention.key_length")?;
        if let (Some(key), Some(value)) = (key, self.size("attention.value_length")?)
            && key != value
        {
            let name = "attention.value_length";
            return Err(self.unsupported(name, value.to_string(), &format!("{key}, that of keys")));
        }
        Ok(key.unwrap_or(hidden / heads.max(1)))
    }

    /// Llama and its descendants.
    fn llama(&self, model_type: &str) -> Result<Config, Error> {
        let (hidden, heads) = (self.needed("embedding_length")?, self.needed("attention.head_count")?);
        let (layers, head_dim) = (self.needed("block_count")?, self.head_dim()?);
        let mut config = object(json!({
            "hidden_size": hidden,
            "intermediate_size": self.needed("feed_forward_length")?,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": self.size("attention.head_count_kv")?.unwrap_or(heads),
            "max_position_embeddings": self.needed("context_length")?,
            "rms_norm_eps": self.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
            "rope_theta": self.number("rope.freq_base")?.unwrap_or(10_000.0),
            "hidden_act": if model_type.starts_with("gemma") { "gelu_pytorch_tanh" } else { "silu" },
        }));
        if model_type != "phi3" {
            config.insert("head_dim".into(), json!(head_dim));
        }
        if let Some(scaling) = self.scaling(head_dim)? {
            config.insert("rope_scaling".into(), scaling);
        }
        match model_type {
            "llama" | "qwen3" => {
                config.insert("attention_bias".into(), json!(self.has("attn_q.bias")));
                config.insert("mlp_bias".into(), json!(self.has("ffn_gate.bias")));
            }
            "gemma" => drop(config.insert("hidden_activation".into(), json!("gelu_pytorch_tanh"))),
            "gemma2" | "gemma3_text" => self.gemma(&mut config, [hidden, heads, head_dim, layers])?,
            "phi3" => self.phi3(&mut config, head_dim)?,
            _ => {}
        }
        Ok(config)
    }

    /// Gemma 2 and 3. What scores are divided by is not in the file: by the authors' models, it is the width of a head
    /// but for their 27 B, which are told by their layers, as in llama.cpp.
    fn gemma(&self, config: &mut Config, [hidden, heads, head_dim, layers]: [usize; 4]) -> Result<(), Error> {
        let is_27b = matches!((self.architecture, layers), ("gemma2", 46) | ("gemma3", 62));
        config.insert("hidden_activation".into(), json!("gelu_pytorch_tanh"));
        config.insert("query_pre_attn_scalar".into(), json!(if is_27b { hidden / heads.max(1) } else { head_dim }));
        config.insert("sliding_window".into(), json!(self.needed("attention.sliding_window")?));
        config.insert("attn_logit_softcapping".into(), json!(self.number("attn_logit_softcapping")?));
        config.insert("final_logit_softcapping".into(), json!(self.number("final_logit_softcapping")?));
        if self.architecture == "gemma3" {
            let local = self.number("rope.freq_base_swa")?.unwrap_or(10_000.0);
            config.insert("rope_local_base_freq".into(), json!(local));
            let theta = self.number("rope.freq_base")?.unwrap_or(1_000_000.0);
            config.insert("rope_theta".into(), json!(theta));
            let pattern = self.size("attention.sliding_window_pattern")?;
            config.insert("sliding_window_pattern".into(), json!(pattern.unwrap_or(6)));
        }
        Ok(())
    }

    fn phi3(&self, config: &mut Config, head_dim: usize) -> Result<(), Error> {
        let rotated = self.size("rope.dimension_count")?.unwrap_or(head_dim);
        config.insert("partial_rotary_factor".into(), json!(rotated as f64 / head_dim.max(1) as f64));
        let window = self.size("attention.sliding_window")?.filter(|window| *window > 0);
        config.insert("sliding_window".into(), json!(window));
        let original = self.size("rope.scaling.original_context_length")?;
        let original = original.map_or_else(|| self.needed("context_length"), Ok)?;
        config.insert("original_max_position_embeddings".into(), json!(original));
        Ok(())
    }

    fn gpt2(&self) -> Result<Config, Error> {
        Ok(object(json!({
            "n_embd": self.needed("embedding_length")?,
            "n_inner": self.needed("feed_forward_length")?,
            "n_layer": self.needed("block_count")?,
            "n_head": self.needed("attention.head_count")?,
            "n_positions": self.needed("context_length")?,
            "layer_norm_epsilon": self.number("attention.layer_norm_epsilon")?.unwrap_or(1e-5),
            "activation_function": "gelu_new",
        })))
    }

    fn gpt_neox(&self) -> Result<Config, Error> {
        let head_dim = self.head_dim()?;
        let rotated = self.size("rope.dimension_count")?.unwrap_or(head_dim);
        let parallel = self.gguf.flag(&self.key("use_parallel_residual"))?.unwrap_or(true);
        let mut config = object(json!({
            "hidden_size": self.needed("embedding_length")?,
            "intermediate_size": self.needed("feed_forward_length")?,
            "num_hidden_layers": self.needed("block_count")?,
            "num_attention_heads": self.needed("attention.head_count")?,
            "max_position_embeddings": self.needed("context_length")?,
            "layer_norm_eps": self.number("attention.layer_norm_epsilon")?.unwrap_or(1e-5),
            "rotary_emb_base": self.number("rope.freq_base")?.unwrap_or(10_000.0),
            "rotary_pct": rotated as f64 / head_dim.max(1) as f64,
            "use_parallel_residual": parallel,
            "attention_bias": self.has("attn_qkv.bias"),
            "hidden_act": "gelu",
        }));
        if let Some(scaling) = self.scaling(rotated)? {
            config.insert("rope_scaling".into(), scaling);
        }
        Ok(config)
    }

    /// `rope_scaling`. Llama 3's is in the file as a divisor for each frequency, which is LongRoPE with the same divisors
    /// at any length.
    fn scaling(&self, head_dim: usize) -> Result<Option<Value>, Error> {
        let original = self.size("rope.scaling.original_context_length")?;
        let original = original.map_or_else(|| self.needed("context_length"), Ok)?;
        let [both, short, long] = super::ROPE_FACTORS.map(|name| self.factors(name));
        let attention = self.number("rope.scaling.attn_factor")?;
        if let (Some(short), Some(long)) = (short?, long?) {
            return Ok(Some(long_rope(&short, &long, attention, original)));
        }
        if let Some(both) = both? {
            return Ok(Some(long_rope(&both, &both, Some(1.0), original)));
        }
        let rotated = self.size("rope.dimension_count")?;
        if self.architecture == "llama" && rotated.is_some_and(|rotated| rotated != head_dim) {
            let value = rotated.unwrap_or_default().to_string();
            return Err(self.unsupported("rope.dimension_count", value, &format!("{head_dim}, a whole head")));
        }
        let factor = self.number("rope.scaling.factor")?;
        match (self.gguf.text(&self.key("rope.scaling.type"))?, factor) {
            (None, Some(factor)) | (Some("linear"), Some(factor)) if factor != 1.0 => {
                Ok(Some(json!({"rope_type": "linear", "factor": factor})))
            }
            (Some("yarn"), Some(factor)) => {
                // llama.cpp multiplies what the paper suggests by its own factor.
                let suggested = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
                Ok(Some(json!({
                    "rope_type": "yarn",
                    "factor": factor,
                    "original_max_position_embeddings": original,
                    "attention_factor": suggested * attention.unwrap_or(1.0),
                    "beta_fast": self.number("rope.scaling.yarn_beta_fast")?,
                    "beta_slow": self.number("rope.scaling.yarn_beta_slow")?,
                })))
            }
            (None | Some("none" | "linear" | "longrope"), _) => Ok(None),
            (Some(other), _) => Err(self.unsupported(
                "rope.scaling.type",
                other.chars().take(64).collect(),
                "none, linear, yarn, longrope",
            )),
        }
    }

    fn factors(&self, tensor: &str) -> Result<Option<Vec<f32>>, Error> {
        self.gguf.tensors.get(tensor).map(|tensor| values(self.gguf, tensor)).transpose()
    }
}

fn long_rope(short: &[f32], long: &[f32], attention: Option<f64>, original: usize) -> Value {
    // As a person would write them.
    let decimals = |factors: &[f32]| -> Vec<f64> {
        factors.iter().map(|factor| factor.to_string().parse().unwrap_or_else(|_| f64::from(*factor))).collect()
    };
    json!({
        "rope_type": "longrope",
        "short_factor": decimals(short),
        "long_factor": decimals(long),
        "attention_factor": attention,
        "original_max_position_embeddings": original,
    })
}

fn object(value: Value) -> Config {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
