//! Small tokenizers and paths to real data, for tests.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A byte-level BPE without merges: ids 0..256 are bytes, then come the special tokens given.
pub(crate) fn byte_tokenizer(specials: &[&str]) -> Value {
    let vocab: serde_json::Map<String, Value> =
        byte_chars().into_iter().zip(0..256).map(|(c, id)| (c.to_string(), json!(id))).collect();
    let added: Vec<Value> = specials.iter().zip(256..).map(|(text, id)| added(text, id)).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}
    })
}

/// An entry of `added_tokens`.
pub(crate) fn added(text: &str, id: u32) -> Value {
    json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true})
}

/// GPT-2's printable stand-ins for the 256 bytes, in byte order.
fn byte_chars() -> Vec<char> {
    let is_printable = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256;
    (0..256_u32)
        .map(|byte| {
            let code = if is_printable(byte) { byte } else { next };
            next += u32::from(!is_printable(byte));
            char::from_u32(code).unwrap()
        })
        .collect()
}

/// A file of the shared sample data; `None`, with a line that says so, where there is none.
pub(crate) fn shared_data(test: &str, name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = root.join(name);
    found(test, "no shared data", path)
}

/// A model directory under `BPO_MODELS` or the default cache.
pub(crate) fn model_dir(test: &str, name: &str) -> Option<PathBuf> {
    let default = || std::env::home_dir().unwrap_or_default().join(".cache/bpo-models");
    let root = std::env::var_os("BPO_MODELS").map_or_else(default, PathBuf::from);
    found(test, "no model", root.join(name))
}

fn found(test: &str, missing: &str, path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {test}: {missing}");
    None
}
