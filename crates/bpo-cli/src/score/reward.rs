//! Scores by a reward model.
use std::path::Path;

use bpo_data::{PairIds, Row};
use bpo_model::{Error, SequenceClassifier};
use burn::tensor::Device;
use serde_json::json;

use super::{
    ScoreArgs,
    batches::{batches, in_windows},
    rows::RowFile,
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
    let file = RowFile::open(&args.input, &["input_ids"])?;
    let dir = &hub::local(dir)?;
    let model = load(dir, device)?;
    let tokenizer = match file.holds_ids {
        true => None,
        false => {
            let source = ModelSource::Dir(dir.to_owned());
            let own = args.tokenizer.as_deref();
            Some(source.load_fitting_tokenizer(own, model.vocab_size(), model.raw_config())?)
        }
    };
    let each_row = |each: &mut dyn FnMut(Ids) -> Result<(), Failure>| match &tokenizer {
        None => file.each_object(|row| each(ids(&file, &row, model.vocab_size())?)),
        Some(tokenizer) if model.reads_pairs() => file.each_pair(tokenizer, |line, pair| each((line, pair))),
        Some(tokenizer) => file.each_encoded(tokenizer, !args.no_eos, |row| {
            let ids = [row.prompt, row.response].concat();
            each((row.line, PairIds { ids, types: Vec::new() }))
        }),
    };
    // Before anything is scored, all of it is looked at; nothing of it is held.
    let (longest, context, mut long) = (model.longest().unwrap_or(usize::MAX), model.context(), None);
    each_row(&mut |(line, row)| match row.ids.len() {
        0 => Err(file.error(line, "the row has no tokens")),
        tokens if tokens > longest => {
            let reason = format!("the row has {tokens} tokens, the model reads {longest} at most");
            Err(file
                .error(line, format!("{reason}; as an annotator (--annotator DIR) it reads it without its beginning")))
        }
        tokens => {
            if tokens > context {
                long.get_or_insert((line, tokens));
            }
            Ok(())
        }
    })?;
    if let Some((line, tokens)) = long {
        file.warn_of_long(line, tokens, context);
    }
    let (mut out, progress) = (Out::new(), globals.progress());
    let mut stage = progress.stage("scoring", file.len, "rows");
    in_windows(each_row, |window: &[Ids]| {
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
        out.flush()
    })?;
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
