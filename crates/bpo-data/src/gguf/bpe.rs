//! Byte-level BPE (`gpt2`): merges are in the file; what splits texts before them has only a name there.

use serde_json::{Value, json};

use super::Vocabulary;
use crate::Error;

/// `tokenizer.json`.
pub(super) fn tokenizer(vocabulary: &Vocabulary<'_>) -> Result<Value, Error> {
    let merges = vocabulary.gguf.texts("tokenizer.ggml.merges")?;
    let merges = merges.ok_or_else(|| vocabulary.error("it has no tokenizer.ggml.merges".to_owned()))?;
    let merges: Option<Vec<[&str; 2]>> = merges.iter().map(pair).collect();
    let merges = merges.ok_or_else(|| vocabulary.error("a merge is not two texts with a space between".to_owned()))?;
    let split = vocabulary.split()?;
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": split.normalizer(),
        "pre_tokenizer": split.pre_tokenizer(),
        "post_processor": vocabulary.post_processor(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": split.whole_words,
            "vocab": vocabulary.ids(),
            "merges": merges,
        },
    }))
}

/// The halves of a merge; no token has a space in it, for bytes are spelled in printable letters.
fn pair(merge: &str) -> Option<[&str; 2]> {
    // llama.cpp looks from the second byte on: a merge may begin with what looks like a space.
    let at = merge.char_indices().skip(1).find(|(_, letter)| *letter == ' ')?.0;
    Some([&merge[..at], &merge[at + 1..]])
}
