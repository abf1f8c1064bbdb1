//! ggml's names of tensors.
use super::Change;
use crate::{
    Architecture, DecoderConfig, NormKind,
    names::{Mlp, Qkv, is_transposed},
};

/// The Hugging Face name of a tensor and what was done to it; `None` for one that the family does not have.
pub(super) fn of(config: &DecoderConfig, name: &str, dimensions: usize) -> Option<(String, Change)> {
    let (path, suffix) = name.rsplit_once('.').filter(|(_, suffix)| ["weight", "bias"].contains(suffix))?;
    let names = config.architecture.names();
    let (module, change) = match path {
        "token_embd" => (names.embedding.to_owned(), Change::Nothing),
        "position_embd" if !names.positions.is_empty() => (names.positions.to_owned(), Change::Nothing),
        "output_norm" => (names.norm.to_owned(), norm(config)),
        "output" => (names.head.to_owned(), Change::Nothing),
        _ => {
            let (layer, part) = path.strip_prefix("blk.")?.split_once('.')?;
            let layer: usize = layer.parse().ok()?;
            let (module, change) = of_layer(config, part)?;
            (format!("{}.{layer}.{module}", names.layers), change)
        }
    };
    let change = if dimensions == 2 && is_transposed(&module) { Change::Transposed } else { change };
    Some((format!("{module}.{suffix}"), change))
}

fn norm(config: &DecoderConfig) -> Change {
    if config.norm == NormKind::RmsUnitOffset { Change::PlusOne } else { Change::Nothing }
}

/// The path below a layer.
fn of_layer(config: &DecoderConfig, part: &str) -> Option<(String, Change)> {
    let names = &config.architecture.names().layer;
    let attention = |name: &str| format!("{}.{name}", names.attention);
    let rotated = |heads| match config.architecture {
        Architecture::Llama => Change::Pairs { heads },
        _ => Change::Nothing,
    };
    let (query_heads, heads) = (config.num_attention_heads, config.num_key_value_heads);
    let (path, change) = match (part, &names.qkv, &names.mlp) {
        ("attn_norm", ..) => (names.attention_norm.to_owned(), norm(config)),
        ("ffn_norm", ..) => (names.mlp_norm.to_owned(), norm(config)),
        ("post_attention_norm", ..) => (names.attention_post_norm.to_owned(), norm(config)),
        ("post_ffw_norm", ..) => (names.mlp_post_norm.to_owned(), norm(config)),
        ("attn_q_norm" | "attn_k_norm", ..) if config.qk_norm => (attention(&part[5..]), norm(config)),
        ("attn_q", Qkv::Three([query, ..]), _) => (attention(query), rotated(query_heads)),
        ("attn_k", Qkv::Three([_, key, _]), _) => (attention(key), rotated(heads)),
        ("attn_v", Qkv::Three([.., value]), _) => (attention(value), Change::Nothing),
        ("attn_qkv", Qkv::Blocks(name), _) => (attention(name), Change::Nothing),
        ("attn_qkv", Qkv::PerHead(name), _) => (attention(name), Change::Blocks { heads: query_heads }),
        ("attn_output", ..) => (attention(names.output), Change::Nothing),
        ("ffn_gate", _, Mlp::Gated { gate, .. }) => ((*gate).to_owned(), Change::Nothing),
        ("ffn_up", _, Mlp::Gated { up, .. } | Mlp::Plain { up, .. }) => ((*up).to_owned(), Change::Nothing),
        ("ffn_up", _, Mlp::Fused { gate_up, .. }) => ((*gate_up).to_owned(), Change::Nothing),
        ("ffn_down", _, Mlp::Gated { down, .. } | Mlp::Plain { down, .. } | Mlp::Fused { down, .. }) => {
            ((*down).to_owned(), Change::Nothing)
        }
        _ => return None,
    };
    // Families without a norm there have no name for it.
    (!path.is_empty()).then_some((path, change))
}
