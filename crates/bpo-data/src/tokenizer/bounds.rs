//! What a `tokenizer.json` may make of a text, bounded before the text is given to it.
//!
//! Forty replacements of `a` by `aa`, or a post-processor that repeats a list of ids, are a few hundred bytes of
//! JSON that fill any memory: no panic to catch, and no error to read.

use serde::Deserialize;
use serde_json::Value;

/// How much longer a text may become by the replacements of a tokenizer; those of published ones make it 3 to 12
/// times as long at most.
const MAX_GROWTH: f64 = 1024.0;
/// Special tokens that a post-processor may add to a text.
const MAX_ADDED: usize = 1024;

/// The parts of a tokenizer that rewrite texts.
#[derive(Deserialize)]
struct Steps {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

/// Refuses a tokenizer whose output is out of all proportion to its input.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let steps: Steps = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    for (name, step) in
        [("normalizer", &steps.normalizer), ("pre_tokenizer", &steps.pre_tokenizer), ("decoder", &steps.decoder)]
    {
        let growth = growth(step);
        if growth > MAX_GROWTH {
            return Err(format!(
                "its {name} may make a text {growth:.0} times as long; at most {MAX_GROWTH} is allowed"
            ));
        }
    }
    let added = added(&steps.post_processor);
    if added > MAX_ADDED {
        return Err(format!("its post_processor adds {added} tokens to a text; at most {MAX_ADDED} is allowed"));
    }
    Ok(())
}

/// The product of what each replacement, wherever it is, may do to the length of a text.
fn growth(step: &Value) -> f64 {
    let own = match step.get("content").and_then(Value::as_str) {
        Some(content) if step.get("type").and_then(Value::as_str) == Some("Replace") => {
            replacement(step.get("pattern"), content.len() as f64)
        }
        _ => 1.0,
    };
    own * parts(step).map(growth).product::<f64>()
}

/// A string is replaced as a whole; a regular expression may match nothing, between any two bytes.
fn replacement(pattern: Option<&Value>, content: f64) -> f64 {
    match pattern.and_then(|pattern| pattern.get("String")).and_then(Value::as_str) {
        Some(string) if !string.is_empty() => (content / string.len() as f64).max(1.0),
        _ => 1.0 + content,
    }
}

/// How many ids the templates of a post-processor hold.
fn added(step: &Value) -> usize {
    let tokens = step.get("special_tokens");
    let ids = |piece: &Value| {
        let name = piece.get("SpecialToken")?.get("id")?.as_str()?;
        Some(tokens?.get(name)?.get("ids")?.as_array()?.len())
    };
    let templates = [step.get("single"), step.get("pair")];
    let own = templates.into_iter().flatten().filter_map(Value::as_array).flatten().filter_map(ids);
    own.chain(parts(step).map(added)).fold(0, usize::saturating_add)
}

/// The steps of a sequence.
fn parts(step: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["normalizers", "pretokenizers", "decoders", "processors"];
    lists.into_iter().filter_map(|key| step.get(key)).filter_map(Value::as_array).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(key: &str, step: Value) -> Result<(), String> {
        check(json!({key: step, "model": {"vocab": {}}}).to_string().as_bytes())
    }

    fn replace(pattern: Value, content: &str) -> Value {
        json!({"type": "Replace", "pattern": pattern, "content": content})
    }

    #[test]
    fn replacements_of_published_tokenizers_are_within_bounds() {
        let spaces = replace(json!({"String": " "}), "▁");
        let runs = replace(json!({"Regex": " {2,}"}), "▁");
        let sequence = json!({"type": "Sequence", "normalizers": [spaces, runs, {"type": "NFKC"}]});
        assert_eq!(growth(&sequence), 12.0);
        assert!(checked("normalizer", sequence).is_ok());
        assert!(
            checked("decoder", json!({"type": "Sequence", "decoders": [replace(json!({"String": "▁"}), " ")]})).is_ok()
        );
        assert!(checked("normalizer", Value::Null).is_ok());
        assert!(check(b"{}").is_ok());
    }

    #[test]
    fn replacements_that_multiply_are_refused_wherever_they_are() {
        let double = replace(json!({"String": "a"}), "aa");
        let sequence = |key: &str| json!({"type": "Sequence", key: vec![double.clone(); 40]});
        let nested = json!({"type": "Sequence", "normalizers": [sequence("normalizers"), {"type": "NFC"}]});
        for (key, step) in
            [("normalizer", sequence("normalizers")), ("normalizer", nested), ("decoder", sequence("decoders"))]
        {
            let reason = checked(key, step).unwrap_err();
            assert!(reason.starts_with(&format!("its {key} may make a text")), "{reason}");
        }
        let long = "x".repeat(5_000);
        assert!(checked("normalizer", replace(json!({"String": "a"}), &long)).is_err());
        assert!(checked("normalizer", replace(json!({"Regex": ""}), &long)).is_err());
        assert!(checked("normalizer", replace(json!({"String": ""}), &long)).is_err());
    }

    #[test]
    fn a_post_processor_that_adds_thousands_of_tokens_is_refused() {
        let piece = json!({"SpecialToken": {"id": "s", "type_id": 0}});
        let template = |pieces: usize, ids: usize| {
            json!({"type": "TemplateProcessing", "single": vec![piece.clone(); pieces], "pair": [],
                "special_tokens": {"s": {"id": "s", "ids": vec![1; ids], "tokens": vec!["s"; ids]}}})
        };
        assert!(checked("post_processor", template(2, 2)).is_ok());
        assert!(checked("post_processor", template(100, 100)).unwrap_err().contains("adds 10000 tokens"));
        let sequence = json!({"type": "Sequence", "processors": [template(1, 1), template(1, 2000)]});
        assert!(checked("post_processor", sequence).is_err());
    }
}
