//! `tokenizer.json` files that make the tokenizers crate (0.22.2) panic or multiply what it is given, and some that
//! are only strange.
use serde_json::{Value, json};

/// Name and content.
pub fn attacks() -> Vec<(&'static str, String)> {
    let words = || json!({"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "hello": 1, "a": 2}});
    let with = |key: &str, step: Value| {
        let mut tokenizer = tokenizer(words());
        tokenizer[key] = step;
        tokenizer.to_string()
    };
    let model = |model: Value| tokenizer(model).to_string();
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let piece = json!({"SpecialToken": {"id": "s", "type_id": 0}});
    let template = |single: Value, tokens: Value| json!({"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": tokens});
    let split =
        |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    vec![
        (
            "a text doubled 60 times",
            with("normalizer", json!({"type": "Sequence", "normalizers": vec![double.clone(); 60]})),
        ),
        ("ids doubled 60 times", with("decoder", json!({"type": "Sequence", "decoders": vec![double; 60]}))),
        (
            "a post-processor that adds a hundred million ids",
            with(
                "post_processor",
                template(
                    json!(vec![piece.clone(); 10_000]),
                    json!({"s": {"id": "s", "ids": vec![1; 10_000], "tokens": vec!["s"; 10_000]}}),
                ),
            ),
        ),
        ("a post-processor of an unknown token", with("post_processor", template(json!([piece]), json!({})))),
        (
            "a stripped end beyond the token",
            with("decoder", json!({"type": "Strip", "content": "h", "start": 99, "stop": 99})),
        ),
        ("pieces of length 0", with("pre_tokenizer", json!({"type": "FixedLength", "length": 0}))),
        ("a regex that does not end", with("pre_tokenizer", split("("))),
        ("a regex that looks back for ever", with("pre_tokenizer", split("(a+)+(?<=b)$"))),
        ("a regex of a gigabyte", with("pre_tokenizer", split("((a{1000}){1000}){1000}"))),
        (
            "a character map that is no base64",
            with("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "!!!"})),
        ),
        ("a character map of nothing", with("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": ""}))),
        (
            "a character map that lies of its size",
            with("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "/////w=="})),
        ),
        (
            "padding to a multiple of 0",
            with(
                "padding",
                json!({"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": 0, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}),
            ),
        ),
        (
            "padding to a billion",
            with(
                "padding",
                json!({"strategy": {"Fixed": 1_000_000_000}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}),
            ),
        ),
        (
            "a stride longer than what is kept",
            with("truncation", json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 9})),
        ),
        ("an added token of no text", with("added_tokens", json!([added("", 3)]))),
        ("two added tokens of one id", with("added_tokens", json!([added("x", 3), added("y", 3)]))),
        ("an added token of the last id", with("added_tokens", json!([added("x", u64::from(u32::MAX))]))),
        ("an id of 2^32", with("added_tokens", json!([added("x", 1 << 32)]))),
        ("words without an unknown one", model(json!({"type": "WordLevel", "unk_token": "none", "vocab": {"a": 0}}))),
        ("no words", model(json!({"type": "WordLevel", "unk_token": "<unk>", "vocab": {}}))),
        (
            "ids with gaps of billions",
            model(json!({"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "a": 4_294_967_295_u32}})),
        ),
        (
            "an unknown word out of range",
            model(json!({"type": "Unigram", "unk_id": 9, "vocab": [["a", -1.0]], "byte_fallback": false})),
        ),
        (
            "a unigram model of nothing",
            model(json!({"type": "Unigram", "unk_id": null, "vocab": [], "byte_fallback": true})),
        ),
        (
            "unigram scores that are no numbers",
            model(json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", null]], "byte_fallback": false})),
        ),
        (
            "a unigram piece of no text",
            model(json!({"type": "Unigram", "unk_id": 0, "vocab": [["", 0.0], ["a", -1e300]], "byte_fallback": false})),
        ),
        ("merges of unknown words", model(bpe(json!({"a": 0}), json!([["x", "y"]])))),
        ("merges without a blank", model(bpe(json!({"a": 0}), json!(["ab"])))),
        ("bytes that are not in the vocabulary", with_bytes_missing()),
        (
            "word pieces of no length",
            model(
                json!({"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "", "max_input_chars_per_word": 0, "vocab": {"<unk>": 0}}),
            ),
        ),
        ("an unknown model", model(json!({"type": "Quantum", "vocab": {}}))),
        ("nesting of 100,000", format!("{{\"normalizer\":{}", "[".repeat(100_000))),
        ("steps nested 100 deep", with("normalizer", nested(100))),
        ("no JSON", "{".to_owned()),
        ("nothing", String::new()),
    ]
}

/// A vocabulary of the 256 bytes, without merges.
pub fn bytes_only() -> String {
    let is_printable = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256;
    let mut vocab = serde_json::Map::new();
    for byte in 0..256_u32 {
        let code = if is_printable(byte) { byte } else { next };
        next += u32::from(!is_printable(byte));
        vocab.insert(char::from_u32(code).unwrap().to_string(), json!(byte));
    }
    let mut tokenizer = tokenizer(bpe(vocab.into(), json!([])));
    let step = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    tokenizer["pre_tokenizer"] = step.clone();
    tokenizer["decoder"] = step;
    tokenizer.to_string()
}

fn with_bytes_missing() -> String {
    let mut tokenizer: Value = serde_json::from_str(&bytes_only()).unwrap();
    tokenizer["model"]["vocab"] = json!({"a": 0});
    tokenizer.to_string()
}

fn tokenizer(model: Value) -> Value {
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null, "model": model})
}

fn bpe(vocab: Value, merges: Value) -> Value {
    json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges})
}

fn added(text: &str, id: u64) -> Value {
    json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true})
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!({"type": "NFC"}), |step, _| json!({"type": "Sequence", "normalizers": [step]}))
}
