//! Scores by an annotator that gives any: a lexicon, a program, a rating or reward model behind HTTP.
use bpo_annotate::Item;
use bpo_data::Prompt;
use burn::tensor::Device;
use serde_json::{Value, json};

use super::{ScoreArgs, rows::RowFile};
use crate::{
    annotator,
    args::Globals,
    failure::{Failure, Kind},
    out::Out,
};

/// Rows scored between two looks at the progress.
const BATCH: usize = 64;

/// Prints `score` of every row; null where there is none.
pub fn run(args: &ScoreArgs, named: &str, device: &Device, globals: &Globals) -> Result<(), Failure> {
    let file = RowFile::read(&args.input)?;
    let item = |row: bpo_data::TextRow| {
        let prompt = row.prompt.unwrap_or_else(|| Prompt::Text(String::new()));
        Item::new(prompt.text(), row.completion)
    };
    let items: Vec<Item> = file.texts()?.into_iter().map(item).collect();
    let mut annotator = annotator::from_flag(named, device)?;
    if annotator.score(&[]).is_none() {
        let name = annotator.name();
        return Err(Failure::usage(format!("--annotator: {name} only compares; `bpo annotate` asks it for pairs")));
    }
    let (mut out, progress) = (Out::new(), globals.progress());
    let mut stage = progress.stage("scoring", items.len(), "rows");
    let mut missing = 0;
    for batch in items.chunks(BATCH) {
        let scores = annotator.score(batch).transpose().inspect_err(|_| annotator::tell(&annotator, &progress))?;
        for score in scores.unwrap_or_default() {
            // -0 is 0.
            let value = if score.is_finite() { json!(score + 0.0) } else { Value::Null };
            missing += usize::from(value.is_null());
            out.json(&json!({"score": value}))?;
        }
        out.flush()?;
        stage.advance(batch.len());
    }
    stage.finish();
    annotator::tell(&annotator, &progress);
    match missing {
        0 => Ok(()),
        all if all == items.len() => {
            Err(Failure::message(Kind::Annotator, format!("annotator {}: no score at all", annotator.name())))
        }
        some => {
            progress.say(&format!("annotator {}: {some} of {} rows have no score", annotator.name(), items.len()));
            Ok(())
        }
    }
}
