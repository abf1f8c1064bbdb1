//! What a request looks like.

use serde_json::{Map, Value, json};

use super::{Asked, Drawing, Format, PromptForm, SamplerConfig};
use crate::ServiceUrl;

/// Where completions are asked for.
pub(super) fn address(url: &ServiceUrl, format: Format) -> String {
    match format {
        Format::Sglang => url.root().below("/generate"),
        _ => url.below("/completions"),
    }
}

/// The body of a request. What decides the distribution is always said: servers have defaults of their own, which cut
/// tails off.
pub(super) fn body(
    config: &SamplerConfig,
    model: &str,
    adapter: Option<&str>,
    asked: &Asked<'_>,
    how: &Drawing,
) -> Value {
    let mut body = match config.format {
        Format::Sglang => sglang(config, adapter, asked, how),
        _ => completions(config, adapter.unwrap_or(model), asked, how),
    };
    body.extend(config.extra_body.clone());
    Value::Object(body)
}

fn completions(config: &SamplerConfig, model: &str, asked: &Asked<'_>, how: &Drawing) -> Map<String, Value> {
    let prompt = match config.prompt_form() {
        PromptForm::Ids => json!(asked.ids),
        PromptForm::Text => json!(asked.text),
    };
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| drop(body.insert(key.to_owned(), value));
    put("model", json!(model));
    put("prompt", prompt);
    put("max_tokens", json!(how.max_new_tokens));
    put("temperature", json!(how.temperature));
    put("top_p", json!(how.top_p));
    put("seed", json!(asked.seed));
    put("n", json!(1));
    if config.logprobs && config.format != Format::Transformers {
        put("logprobs", json!(1));
    }
    match config.format {
        Format::Vllm => {
            put("top_k", json!(how.top_k));
            put("min_p", json!(how.min_p));
            put("min_tokens", json!(how.min_new_tokens));
            put("repetition_penalty", json!(1.0));
            put("stop_token_ids", json!(how.eos_ids));
            put("return_token_ids", json!(true));
            put("add_special_tokens", json!(false));
        }
        Format::LlamaCpp => {
            put("top_k", json!(how.top_k));
            put("min_p", json!(how.min_p));
            put("repeat_penalty", json!(1.0));
        }
        Format::Transformers => {
            // A configuration of its own, or the model's would cut tails off.
            let mut settings = json!({
                "max_new_tokens": how.max_new_tokens, "min_new_tokens": how.min_new_tokens, "eos_token_id": how.eos_ids,
                "pad_token_id": how.eos_ids.first(), "do_sample": how.temperature > 0.0,
            });
            if let (Some(settings), true) = (settings.as_object_mut(), how.temperature > 0.0) {
                settings.insert("temperature".into(), json!(how.temperature));
                settings.insert("top_k".into(), json!(how.top_k));
                settings.insert("top_p".into(), json!(how.top_p));
                if how.min_p > 0.0 {
                    settings.insert("min_p".into(), json!(how.min_p));
                }
            }
            put("generation_config", json!(settings.to_string()));
        }
        Format::Openai | Format::Sglang => {}
    }
    body
}

fn sglang(config: &SamplerConfig, adapter: Option<&str>, asked: &Asked<'_>, how: &Drawing) -> Map<String, Value> {
    let mut body = Map::new();
    match config.prompt_form() {
        PromptForm::Ids => body.insert("input_ids".into(), json!(asked.ids)),
        PromptForm::Text => body.insert("text".into(), json!(asked.text)),
    };
    // 0 is no number of tokens to it: -1 keeps all.
    let top_k = if how.top_k == 0 { json!(-1) } else { json!(how.top_k) };
    let sampling = json!({
        "max_new_tokens": how.max_new_tokens, "min_new_tokens": how.min_new_tokens, "temperature": how.temperature,
        "top_p": how.top_p, "top_k": top_k, "min_p": how.min_p, "repetition_penalty": 1.0,
        "stop_token_ids": how.eos_ids, "sampling_seed": asked.seed,
    });
    body.insert("sampling_params".into(), sampling);
    body.insert("return_logprob".into(), json!(config.logprobs));
    body.extend(adapter.map(|adapter| ("lora_path".to_owned(), json!(adapter))));
    body
}

/// A setting that the server has no key for.
pub(super) fn unsupported(format: Format, how: &Drawing) -> Option<&'static str> {
    let keys = [
        ("top_k", how.top_k > 0, format != Format::Openai),
        ("min_p", how.min_p > 0.0, format != Format::Openai),
        ("min_new_tokens", how.min_new_tokens > 0, !matches!(format, Format::Openai | Format::LlamaCpp)),
    ];
    keys.into_iter().find(|(_, is_set, is_known)| *is_set && !is_known).map(|(key, ..)| key)
}
