//! Pre-tokenizers by the names that llama.cpp has for them.

use serde_json::{Value, json};

/// How texts are split before merges act.
pub(super) struct Split {
    /// A regular expression, or GPT-2's own.
    regex: Option<&'static str>,
    /// Every digit by itself, before anything else.
    digits: bool,
    /// Texts are composed first (NFC).
    composed: bool,
    /// A word that is a token is that token, whatever the merges say.
    pub whole_words: bool,
}

const GPT2: Split = Split { regex: None, digits: false, composed: false, whole_words: false };

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Every name that is known, for errors.
pub(super) const NAMES: [&str; 15] = [
    "default",
    "gpt-2",
    "phi-2",
    "mpt",
    "olmo",
    "smollm",
    "starcoder",
    "refact",
    "llama-bpe",
    "dbrx",
    "smaug-bpe",
    "qwen2",
    "deepseek-r1-qwen",
    "gpt-4o",
    "tekken",
];

/// The splitter of that name.
pub(super) fn named(name: &str) -> Option<Split> {
    let regex = |regex| Split { regex: Some(regex), ..GPT2 };
    Some(match name {
        "default" | "gpt-2" | "gpt2" | "phi-2" | "mpt" | "olmo" => GPT2,
        "smollm" | "starcoder" | "refact" => Split { digits: true, ..GPT2 },
        "llama-bpe" | "llama3" | "llama-v3" => Split { whole_words: true, ..regex(LLAMA3) },
        "dbrx" | "smaug-bpe" => regex(LLAMA3),
        "qwen2" | "deepseek-r1-qwen" => Split { composed: true, ..regex(QWEN2) },
        "gpt-4o" => regex(GPT4O),
        "tekken" => Split { whole_words: true, ..regex(TEKKEN) },
        _ => return None,
    })
}

/// Whether texts begin with BOS where the file does not say.
pub(super) fn begins_with_bos(name: &str) -> bool {
    matches!(name, "llama-bpe" | "llama3" | "llama-v3" | "tekken")
}

impl Split {
    pub fn normalizer(&self) -> Value {
        if self.composed { json!({"type": "NFC"}) } else { Value::Null }
    }

    pub fn pre_tokenizer(&self) -> Value {
        let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let steps = match (self.regex, self.digits) {
            (Some(regex), _) => vec![
                json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false}),
                bytes(false),
            ],
            (None, true) => vec![json!({"type": "Digits", "individual_digits": true}), bytes(true)],
            (None, false) => return bytes(true),
        };
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}
