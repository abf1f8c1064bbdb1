//! What each family calls its tensors.
use crate::Architecture;

/// Paths of a family's modules; those of a layer are below `{layers}.{index}`.
#[derive(Debug)]
pub(crate) struct Names {
    /// What stands before every path but the head's, and is missing from files of the bare decoder.
    pub prefix: &'static str,
    pub embedding: &'static str,
    /// Learned positions.
    pub positions: &'static str,
    pub layers: &'static str,
    pub norm: &'static str,
    pub head: &'static str,
    pub layer: LayerNames,
}

#[derive(Debug)]
pub(crate) struct LayerNames {
    pub attention_norm: &'static str,
    pub attention_post_norm: &'static str,
    pub mlp_norm: &'static str,
    pub mlp_post_norm: &'static str,
    /// Of the projections and norms of attention.
    pub attention: &'static str,
    pub qkv: Qkv,
    pub output: &'static str,
    pub mlp: Mlp,
}

/// Queries, keys and values.
#[derive(Debug)]
pub(crate) enum Qkv {
    /// Of a matrix each.
    Three([&'static str; 3]),
    /// Of one matrix: all queries, all keys, all values.
    Blocks(&'static str),
    /// Of one matrix: query, key and value of each head in turn.
    PerHead(&'static str),
}

/// The matrices of the feed-forward block.
#[derive(Debug)]
pub(crate) enum Mlp {
    Gated {
        gate: &'static str,
        up: &'static str,
        down: &'static str,
    },
    /// Gate and up in one matrix, in this order.
    Fused {
        gate_up: &'static str,
        down: &'static str,
    },
    Plain {
        up: &'static str,
        down: &'static str,
    },
}

impl Architecture {
    pub(crate) fn names(self) -> &'static Names {
        match self {
            Self::Llama | Self::Mistral | Self::Qwen2 | Self::Qwen3 | Self::Gemma => &LLAMA,
            Self::Gemma2 | Self::Gemma3 => &SANDWICHED,
            Self::Phi3 => &PHI3,
            Self::Gpt2 => &GPT2,
            Self::GptNeox => &GPT_NEOX,
        }
    }
}

const LLAMA: Names = Names {
    prefix: "model.",
    embedding: "model.embed_tokens",
    positions: "",
    layers: "model.layers",
    norm: "model.norm",
    head: "lm_head",
    layer: LayerNames {
        attention_norm: "input_layernorm",
        attention_post_norm: "",
        mlp_norm: "post_attention_layernorm",
        mlp_post_norm: "",
        attention: "self_attn",
        qkv: Qkv::Three(["q_proj", "k_proj", "v_proj"]),
        output: "o_proj",
        mlp: Mlp::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" },
    },
};

const SANDWICHED: Names = Names {
    layer: LayerNames {
        attention_post_norm: "post_attention_layernorm",
        mlp_norm: "pre_feedforward_layernorm",
        mlp_post_norm: "post_feedforward_layernorm",
        ..LLAMA.layer
    },
    ..LLAMA
};

const PHI3: Names = Names {
    layer: LayerNames {
        qkv: Qkv::Blocks("qkv_proj"),
        mlp: Mlp::Fused { gate_up: "mlp.gate_up_proj", down: "mlp.down_proj" },
        ..LLAMA.layer
    },
    ..LLAMA
};

const GPT2: Names = Names {
    prefix: "transformer.",
    embedding: "transformer.wte",
    positions: "transformer.wpe",
    layers: "transformer.h",
    norm: "transformer.ln_f",
    head: "lm_head",
    layer: LayerNames {
        attention_norm: "ln_1",
        attention_post_norm: "",
        mlp_norm: "ln_2",
        mlp_post_norm: "",
        attention: "attn",
        qkv: Qkv::Blocks("c_attn"),
        output: "c_proj",
        mlp: Mlp::Plain { up: "mlp.c_fc", down: "mlp.c_proj" },
    },
};

const GPT_NEOX: Names = Names {
    prefix: "gpt_neox.",
    embedding: "gpt_neox.embed_in",
    positions: "",
    layers: "gpt_neox.layers",
    norm: "gpt_neox.final_layer_norm",
    head: "embed_out",
    layer: LayerNames {
        attention_norm: "input_layernorm",
        attention_post_norm: "",
        mlp_norm: "post_attention_layernorm",
        mlp_post_norm: "",
        attention: "attention",
        qkv: Qkv::PerHead("query_key_value"),
        output: "dense",
        mlp: Mlp::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
    },
};

impl Names {
    /// Whether a tensor of a file that leaves out `omitted` before its names belongs to the decoder itself, and is no
    /// buffer that older files hold beside the weights.
    pub fn holds(&self, omitted: &str, tensor: &str) -> bool {
        let own = |path: &'static str| path.strip_prefix(omitted).unwrap_or(path);
        let below = |path: &str| tensor.strip_prefix(path).and_then(|rest| rest.strip_prefix('.'));
        match (below(own(self.layers)), below(self.head)) {
            (Some(_), _) => !is_buffer(tensor),
            // A tied model's file may hold its head all the same.
            (None, Some(of_head)) => of_head != "weight",
            (None, None) => [self.norm, self.embedding].iter().any(|path| below(own(path)) == Some("bias")),
        }
    }
}

/// Rotary frequencies and causal masks.
fn is_buffer(tensor: &str) -> bool {
    tensor.contains("rotary_emb.")
        || [".attn.bias", ".attention.bias", ".masked_bias"].iter().any(|end| tensor.ends_with(end))
}

/// Whether files hold the module's weight as `[in, out]` (GPT-2's `Conv1D`), which PEFT calls `fan_in_fan_out`.
pub(crate) fn is_transposed(module: &str) -> bool {
    module.strip_prefix(GPT2.layers).is_some_and(|rest| rest.starts_with('.'))
}
