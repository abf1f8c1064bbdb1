//! Scores by a reward model.
use std::path::Path;

use bpo_model::{Checkpoint, DecoderConfig, SequenceClassifier};
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
    out::Out,
    source::{ModelSource, check_dir},
};

/// A row of ids and its line.
type Ids = (usize, Vec<u32>);

/// Prints `score` of every row.
pub fn run(args: &ScoreArgs, dir: &Path, device: &Device, globals: &Globals) -> Result<(), Failure> {
    let file = RowFile::read(&args.input)?;
    let model = load(dir, device)?;
    let config = model.decoder().config();
    let rows = rows(args, dir, &file, config)?;
    file.warn_of_long(rows.iter().map(|(line, ids)| (*line, ids.len())), config.max_position_embeddings);
    let (mut out, progress) = (Out::new(), globals.progress());
    let mut stage = progress.stage("scoring", rows.len(), "rows");
    for window in rows.chunks(WINDOW) {
        let mut scores = vec![0.0; window.len()];
        let lengths: Vec<usize> = window.iter().map(|(_, ids)| ids.len()).collect();
        for batch in batches(&lengths, args.batch_tokens) {
            let ids: Vec<&[u32]> = batch.iter().map(|&row| window[row].1.as_slice()).collect();
            for (row, score) in batch.iter().zip(model.scores(&ids)?) {
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
    DecoderConfig::from_dir(dir)?;
    if !Checkpoint::open(dir)?.has("score.weight") {
        return Err(Failure::input(format!(
            "{} is not a reward model: it has no score.weight; `bpo score` takes a language model as --model",
            dir.display()
        )));
    }
    Ok(SequenceClassifier::from_dir(dir, device)?)
}

fn rows(args: &ScoreArgs, dir: &Path, file: &RowFile, config: &DecoderConfig) -> Result<Vec<Ids>, Failure> {
    let objects = file.objects()?;
    let rows: Vec<Ids> = if hold_ids(&objects, &["input_ids"]) {
        objects
            .iter()
            .map(|row| Ok((row.line, file.ids(row, "input_ids", config.vocab_size)?)))
            .collect::<Result<_, Failure>>()?
    } else {
        let model = ModelSource::Dir(dir.to_owned());
        let tokenizer = model.load_matching_tokenizer(args.tokenizer.as_deref(), config)?;
        let sequences = file.encode(&tokenizer, !args.no_eos)?;
        sequences.into_iter().map(|row| (row.line, [row.prompt, row.response].concat())).collect()
    };
    match rows.iter().find(|(_, ids)| ids.is_empty()) {
        Some((line, _)) => Err(file.error(*line, "the row has no tokens")),
        None => Ok(rows),
    }
}
