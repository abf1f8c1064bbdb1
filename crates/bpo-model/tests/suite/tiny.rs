//! Tiny random models of every family, so that these tests need no files.
use bpo_model::{Decoder, DecoderConfig};
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};

pub fn config(changes: Value) -> DecoderConfig {
    let mut raw = json!({
        "model_type": "llama", "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 6, "initializer_range": 0.3, "max_position_embeddings": 64,
    });
    for (key, value) in changes.as_object().unwrap() {
        raw[key] = value.clone();
    }
    DecoderConfig::from_json("config.json".as_ref(), raw.to_string().as_bytes()).unwrap()
}

/// One of every family; of those that differ most, two.
pub fn families() -> Vec<(&'static str, Decoder)> {
    let build = |changes| Decoder::random(config(changes), 5, &Device::flex()).unwrap();
    vec![
        ("llama", build(json!({}))),
        (
            "llama3",
            build(json!({"tie_word_embeddings": true, "rope_scaling": {
            "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16}})),
        ),
        ("mistral", build(json!({"model_type": "mistral", "sliding_window": 4}))),
        ("qwen2", build(json!({"model_type": "qwen2"}))),
        ("qwen3", build(json!({"model_type": "qwen3"}))),
        ("gemma", build(json!({"model_type": "gemma"}))),
        (
            "gemma2",
            build(json!({"model_type": "gemma2", "sliding_window": 4, "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 1.5, "final_logit_softcapping": 4.0})),
        ),
        (
            "gemma3",
            build(json!({"model_type": "gemma3_text", "sliding_window": 4, "sliding_window_pattern": 2,
            "query_pre_attn_scalar": 8, "rope_local_base_freq": 50.0})),
        ),
        ("phi3", build(json!({"model_type": "phi3", "sliding_window": 5, "partial_rotary_factor": 0.7}))),
        (
            "gpt2",
            build(json!({"model_type": "gpt2", "n_embd": 24, "n_head": 4, "n_layer": 2, "n_inner": 40,
            "n_positions": 64, "scale_attn_by_inverse_layer_idx": true})),
        ),
        ("gpt_neox", build(json!({"model_type": "gpt_neox", "rotary_pct": 0.4}))),
        (
            "gpt_neox, one after the other",
            build(json!({"model_type": "gpt_neox", "rotary_pct": 0.7, "use_parallel_residual": false,
            "attention_bias": false})),
        ),
    ]
}

/// Plain causal log-probs of `response` after `prompt`, by the full logits.
pub fn logps(model: &Decoder, prompt: &[u32], response: &[u32]) -> Vec<f32> {
    let ids: Vec<u32> = prompt.iter().chain(response).copied().collect();
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let input = model.input([1, ids.len()], &ids, &positions, |_, _, _| true).unwrap();
    let logits: Tensor<2> = model.logits(model.hidden(&input));
    let rows: Vec<f32> = logits.clone().try_into_vec_as().unwrap();
    let vocab = logits.dims()[1];
    let score = |index: usize| {
        let row = &rows[(index - 1) * vocab..index * vocab];
        let sum: f64 = row.iter().map(|&z| f64::from(z).exp()).sum();
        (f64::from(row[ids[index] as usize]) - sum.ln()) as f32
    };
    (prompt.len()..ids.len()).map(score).collect()
}
