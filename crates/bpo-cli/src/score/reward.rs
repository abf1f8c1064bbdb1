//! Scores by a reward model.
use std::path::Path;

use bpo_data::{PairIds, Row};
use bpo_model::{Error, SequenceClassifier};
use burn::tensor::Device;
use serde_json::json;

use super::{
    ScoreArgs,
    batches::{WINDOW, batches},
    rows::{RowFile, hold_ids},
};
use crate::{
    args::Globals,
    failure::{Failure, Kind},
    hub,
    out::Out,
    source::{ModelSource, check_dir},
};

/// A row of ids with their types, and its line.
type Ids = (usize, PairIds);

/// Prints `score` of every row.
pub fn run(args: &ScoreArgs, dir: &Path, device: &Device, globals: &Globals) -> Result<(), Failure> {
    let file = RowFile::read(&args.input)?;
    let dir = &hub::local(dir)?;
    let model = load(dir, device)?;
    let rows = rows(args, dir, &file, &model)?;
    file.warn_of_long(rows.iter().map(|(line, row)| (*line, row.ids.len())), model.context());
    let (mut out, progress) = (Out::new(), globals.progress());
    let mut stage = progress.stage("scoring", rows.len(), "rows");
    for window in rows.chunks(WINDOW) {
        let mut scores = vec![0.0; window.len()];
        let lengths: Vec<usize> = window.iter().map(|(_, row)| row.ids.len()).collect();
        for batch in batches(&lengths, args.batch_tokens) {
            let ids = batch.iter().map(|&row| &window[row].1).map(|row| (row.ids.as_slice(), row.types.as_slice()));
            for (row, score) in batch.iter().zip(model.typed_scores(&ids.collect::<Vec<_>>())?) {
                scores[*row] = score;
            }
            stage.advance(batch.len());
        }
        for ((line, _), score) in window.iter().zip(scores) {
            if !score.is_finite() {
                return Err(Failure::message(Kind::Numerics, file.error(*line, "the score is not finite").text()));
            }
            // -0 is 0.
            out.json(&json!({"score": score + 0.0}))?;
        }
        out.flush()?;
    }
    stage.finish();
    Ok(())
}

/// Reads a reward model; a language model is refused by name.
pub fn load(dir: &Path, device: &Device) -> Result<SequenceClassifier, Failure> {
    check_dir(dir)?;
    match SequenceClassifier::from_dir(dir, device) {
        Err(Error::NoScores { tensor, .. }) => Err(Failure::input(format!(
            "{} is not a reward model: it has no {tensor}; `bpo score` takes a language model as --model",
            dir.display()
        ))),
        other => Ok(other?),
    }
}

fn rows(args: &ScoreArgs, dir: &Path, file: &RowFile, model: &SequenceClassifier) -> Result<Vec<Ids>, Failure> {
    let objects = file.objects()?;
    let rows: Vec<Ids> = if hold_ids(&objects, &["input_ids"]) {
        objects.iter().map(|row| ids(file, row, model.vocab_size())).collect::<Result<_, Failure>>()?
    } else {
        let source = ModelSource::Dir(dir.to_owned());
        let tokenizer =
            source.load_fitting_tokenizer(args.tokenizer.as_deref(), model.vocab_size(), model.raw_config())?;
        if model.reads_pairs() {
            file.pairs(&tokenizer)?
        } else {
            let untyped = |ids| PairIds { ids, types: Vec::new() };
            let sequences = file.encode(&tokenizer, !args.no_eos)?;
            sequences.into_iter().map(|row| (row.line, untyped([row.prompt, row.response].concat()))).collect()
        }
    };
    let longest = model.longest().unwrap_or(usize::MAX);
    match rows.iter().find(|(_, row)| row.ids.is_empty() || row.ids.len() > longest) {
        Some((line, row)) if row.ids.is_empty() => Err(file.error(*line, "the row has no tokens")),
        Some((line, row)) => {
            let tokens = row.ids.len();
            Err(file.error(*line, format!("the row has {tokens} tokens, the model reads {longest} at most")))
        }
        None => Ok(rows),
    }
}

/// `input_ids` of a row and, where they are given, its `token_type_ids`.
fn ids(file: &RowFile, row: &Row, vocab: usize) -> Result<Ids, Failure> {
    let ids = file.ids(row, "input_ids", vocab)?;
    if row.value.get("token_type_ids").is_none() {
        return Ok((row.line, PairIds { ids, types: Vec::new() }));
    }
    let types = file.ids(row, "token_type_ids", usize::MAX)?;
    if let Some(kind) = types.iter().find(|&&kind| kind > 1) {
        return Err(file.error(row.line, format!("`token_type_ids` holds {kind}; there are 0 and 1")));
    }
    if types.len() != ids.len() {
        let (ids, types) = (ids.len(), types.len());
        return Err(file.error(row.line, format!("{ids} `input_ids`, but {types} `token_type_ids`")));
    }
    Ok((row.line, PairIds { ids, types }))
}
