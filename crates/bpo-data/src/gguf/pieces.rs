//! SentencePiece's BPE (`llama`): pieces have scores, of which the merges of the tokenizers crate are made as
//! transformers makes them.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{NORMAL, UNUSED, USER_DEFINED, Vocabulary};
use crate::Error;

/// SentencePiece's letter for a space.
pub(super) const SPACE: &str = "▁";
/// Pieces longer than this have no merges: each way to cut one is looked at.
const MAX_PIECE: usize = 512;

/// `tokenizer.json`.
pub(super) fn tokenizer(vocabulary: &Vocabulary<'_>) -> Result<Value, Error> {
    let gguf = vocabulary.gguf;
    let scores = gguf.floats("tokenizer.ggml.scores")?.unwrap_or_default();
    if scores.len() != vocabulary.tokens.len() {
        let (scores, tokens) = (scores.len(), vocabulary.tokens.len());
        return Err(vocabulary.error(format!("it has {scores} tokenizer.ggml.scores of {tokens} tokens")));
    }
    let prefix = gguf.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let mut normalizers = vec![spaces];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": vocabulary.post_processor(),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": vocabulary.unknown.and_then(|id| vocabulary.tokens.get(id as usize)),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocabulary.ids(),
            "merges": merges(vocabulary, scores),
        },
    }))
}

/// Every way to make a piece of two others, the piece with the best score first.
fn merges<'a>(vocabulary: &Vocabulary<'a>, scores: &[f64]) -> Vec<[&'a str; 2]> {
    let is_piece = |id: usize| [NORMAL, USER_DEFINED, UNUSED].contains(&vocabulary.kind(id));
    let pieces: Vec<(usize, &str)> = vocabulary.tokens.iter().enumerate().filter(|(id, _)| is_piece(*id)).collect();
    let ids: HashMap<&str, usize> = pieces.iter().map(|(id, piece)| (*piece, *id)).collect();
    let mut merges = Vec::new();
    for (id, piece) in pieces.iter().filter(|(_, piece)| piece.len() <= MAX_PIECE) {
        let cuts = piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at));
        let mut found: Vec<(usize, usize, [&str; 2])> =
            cuts.filter_map(|(left, right)| Some((*ids.get(left)?, *ids.get(right)?, [left, right]))).collect();
        found.sort_unstable_by_key(|(left, right, _)| (*left, *right));
        merges.extend(found.into_iter().map(|(.., halves)| (scores[*id], halves)));
    }
    let letters = |text: &str| text.chars().count();
    // Stable, as Python's: pieces of one score stay in the order of the vocabulary.
    merges
        .sort_by_cached_key(|(score, [left, right])| std::cmp::Reverse((Score(*score), letters(left), letters(right))));
    merges.into_iter().map(|(_, halves)| halves).collect()
}

/// A score with an order.
#[derive(PartialEq)]
struct Score(f64);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
