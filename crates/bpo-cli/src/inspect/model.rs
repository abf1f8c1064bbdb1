//! Facts about a model.
use bpo_model::{Checkpoint, DecoderConfig, EncoderConfig, PositionKind, Rope, RopeScaling, SequenceClassifier};
use serde_json::{Map, Value, json};

use super::object;
use crate::{failure::Failure, source::ModelSource};

/// Architecture, sizes, memory, tokenizer. Weights are not loaded.
pub fn facts(source: &ModelSource) -> Result<Map<String, Value>, Failure> {
    let mut facts = of_the_files(source.local()?.as_ref())?;
    if let ModelSource::Hub(model) = source {
        facts.insert("commit".into(), json!(model.fetched()?.commit));
    }
    Ok(facts)
}

fn of_the_files(source: &ModelSource) -> Result<Map<String, Value>, Failure> {
    if let ModelSource::Dir(dir) = source
        && let Some(config) = EncoderConfig::from_dir(dir)?
    {
        return encoder(source, &config);
    }
    let config = source.load_config()?;
    let checkpoint = source.checkpoint()?;
    let architecture = format!("{:?}", config.architecture).to_lowercase();
    let mut facts = shared(source, &checkpoint, ["language model", &architecture]);
    facts.extend(object(json!({
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "heads": config.num_attention_heads,
        "key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "context": config.max_position_embeddings,
        "tied_embeddings": config.is_tied_in(&checkpoint),
        "rope": rope(&config),
        "sliding_window": windows(&config),
        "tokenizer": tokenizer(source, config.vocab_size),
    })));
    if matches!(source, ModelSource::Gguf(_)) {
        facts.insert("quantisations".into(), json!(checkpoint.quantisations()));
    }
    Ok(facts)
}

fn encoder(source: &ModelSource, config: &EncoderConfig) -> Result<Map<String, Value>, Failure> {
    let mut facts = shared(source, &source.checkpoint()?, ["encoder without a score", &config.model_type]);
    facts.extend(object(json!({
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "heads": config.num_attention_heads,
        "vocab_size": config.vocab_size,
        "context": config.context(),
        "tokenizer": tokenizer(source, config.vocab_size),
    })));
    Ok(facts)
}

/// What its files say of a model of any kind; `kind` is what it is where it has no score.
fn shared(source: &ModelSource, checkpoint: &Checkpoint, [kind, architecture]: [&str; 2]) -> Map<String, Value> {
    let parameters = checkpoint.parameters();
    object(json!({
        "kind": if SequenceClassifier::is_in(checkpoint) { "reward model" } else { kind },
        "path": source.to_string(),
        "architecture": architecture,
        "parameters": parameters,
        "dtype": checkpoint.dtype(),
        "memory_f32_mib": (parameters * 4).div_ceil(1 << 20),
    }))
}

/// `null` where positions are learned; the frequencies of layers with a window follow where they are others.
fn rope(config: &DecoderConfig) -> Value {
    if config.positions == PositionKind::Learned {
        return Value::Null;
    }
    let local = config.local_rope.as_ref().map(|rope| format!("; {} in layers with a window", described(rope)));
    json!(described(&config.rope) + &local.unwrap_or_default())
}

fn described(rope: &Rope) -> String {
    let scaling = match &rope.scaling {
        RopeScaling::Default => String::new(),
        RopeScaling::Linear { factor } => format!(", linear × {factor}"),
        RopeScaling::Llama3 { factor, .. } => format!(", llama3 × {factor}"),
        RopeScaling::Yarn { factor, .. } => format!(", yarn × {factor}"),
        RopeScaling::Dynamic { .. } => ", dynamic".to_owned(),
        RopeScaling::LongRope { short_factor, long_factor, .. } if short_factor == long_factor => {
            ", a factor for each frequency".to_owned()
        }
        RopeScaling::LongRope { .. } => ", longrope, within the context of pre-training".to_owned(),
    };
    format!("theta {}{scaling}", rope.theta)
}

/// `null`, or the window and how many layers have it.
fn windows(config: &DecoderConfig) -> Value {
    let sliding: Vec<usize> = config.windows.iter().flatten().copied().collect();
    match sliding.iter().max() {
        None => Value::Null,
        Some(window) => json!({"window": window, "layers": sliding.len()}),
    }
}

/// What the tokenizer is, or why there is none to speak of: a model without one is a model all the same.
fn tokenizer(source: &ModelSource, vocab_size: usize) -> Value {
    match source.load_tokenizer() {
        Err(failure) => json!(format!("unusable: {}", failure.text())),
        Ok(tokenizer) => json!({
            "vocab_size": tokenizer.vocab_size(),
            "fits_model": tokenizer.vocab_size() <= vocab_size,
            "bos_id": tokenizer.bos_id(),
            "eos_ids": tokenizer.eos_ids(),
            "pad_id": tokenizer.pad_id(),
            "chat_template": tokenizer.has_chat_template(),
        }),
    }
}
