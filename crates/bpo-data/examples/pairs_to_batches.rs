//! Preference data to ids and batches, with nothing else of this project: no tensors, no model.
//!
//!     cargo run --release -p bpo-data --example pairs_to_batches -- PAIRS.jsonl TOKENIZER_DIR
//!
//! Without arguments, two rows and a tokenizer of eight words that are made here.
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use std::path::Path;

use bpo_data::{
    Counts, Error, Group, Limits, PromptOrder, Tokenizer, fit_group, packed, read_preferences, read_preferences_from,
};

const ROWS: &[u8] = br#"{"prompt": "the sky is", "chosen": "very blue", "rejected": "green"}
{"prompt": "the sea is", "chosen": "blue", "rejected": "very very green"}"#;

fn main() -> Result<(), Error> {
    let (pairs, tokenizer) = match (std::env::args().nth(1), std::env::args().nth(2)) {
        (Some(rows), Some(dir)) => (read_preferences(Path::new(&rows))?, Tokenizer::from_dir(Path::new(&dir))?),
        _ => (read_preferences_from("two rows", ROWS)?, words()?),
    };
    println!("{} pairs, left out: {:?}", pairs.rows.len(), pairs.skipped);

    // Text becomes ids once; what is too long is cut or dropped by a rule, and counted.
    let limits = Limits { max_length: Some(64), ..Limits::default() };
    let mut counts = Counts::default();
    let mut fitted = Vec::new();
    for row in &pairs.rows {
        let prompt = tokenizer.encode_prompt(&row.prompt)?;
        let [chosen, rejected] = [&row.chosen, &row.rejected].map(|text| tokenizer.encode_completion(text, false));
        fitted.extend(counts.keep(fit_group(prompt, vec![chosen?, rejected?], &limits, false)?));
    }
    println!("{} fit ({counts})", fitted.len());

    // Which rows a step sees is a function of seed and step: the same on every machine and after every resume.
    let step: Vec<usize> = PromptOrder::new(fitted.len(), 42).at(0, 2);
    let groups: Vec<Group<'_>> = step
        .iter()
        .map(|&index| &fitted[index])
        .map(|(prompt, pair)| Group { prompt, completions: pair.iter().map(Vec::as_slice).collect() })
        .collect();
    let layout = packed(&groups, 0, 32)?;
    println!("[{} × {}] ids {:?}", layout.rows, layout.time, layout.ids);
    println!("{} tokens are predicted, in {} sequences", layout.targets.len(), layout.sequences);
    Ok(())
}

/// A tokenizer as its file would say it.
fn words() -> Result<Tokenizer, Error> {
    let json = br#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "?",
                  "vocab": {"?": 0, "the": 1, "sky": 2, "sea": 3, "is": 4, "very": 5, "blue": 6, "green": 7}}}"#;
    Tokenizer::from_bytes(json, None)
}
