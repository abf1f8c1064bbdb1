//! Scores by an annotator that gives any: a lexicon, a program, a rating or reward model behind HTTP.
use bpo_annotate::Item;
use bpo_data::Prompt;
use burn::tensor::Device;
use serde_json::{Value, json};

use super::ScoreArgs;
use crate::{
    annotator,
    args::Globals,
    data::RowSource,
    failure::{Failure, Kind},
    out::Out,
};

/// Rows scored between two looks at the progress.
const BATCH: usize = 64;

/// Prints `score` of every row; null where there is none.
pub fn run(args: &ScoreArgs, named: &str, device: &Device, globals: &Globals) -> Result<(), Failure> {
    let rows = RowSource::open(&args.input)?;
    // Read twice: what is wrong anywhere in the file is found before anything is asked, and nothing of it is held.
    let mut total = 0;
    rows.reader().each_text(|_| {
        total += 1;
        Ok::<_, Failure>(())
    })?;
    let mut annotator = annotator::from_flag(named, device)?;
    if annotator.score(&[]).is_none() {
        let name = annotator.name();
        return Err(Failure::usage(format!("--annotator: {name} only compares; `bpo annotate` asks it for pairs")));
    }
    let (mut out, progress) = (Out::new(), globals.progress());
    let mut stage = progress.stage("scoring", total, "rows");
    let mut missing = 0;
    let mut score = |batch: &[Item]| -> Result<(), Failure> {
        let scores = annotator.score(batch).transpose().inspect_err(|_| annotator::tell(&annotator, &progress))?;
        for score in scores.unwrap_or_default() {
            // -0 is 0.
            let value = if score.is_finite() { json!(score + 0.0) } else { Value::Null };
            missing += usize::from(value.is_null());
            out.json(&json!({"score": value}))?;
        }
        out.flush()?;
        stage.advance(batch.len());
        Ok(())
    };
    let mut batch = Vec::with_capacity(BATCH);
    rows.reader().each_text(|row| {
        let prompt = row.prompt.unwrap_or_else(|| Prompt::Text(String::new()));
        batch.push(Item::new(prompt.text(), row.completion));
        if batch.len() == BATCH {
            score(&batch)?;
            batch.clear();
        }
        Ok::<_, Failure>(())
    })?;
    score(&batch)?;
    stage.finish();
    annotator::tell(&annotator, &progress);
    match missing {
        0 => Ok(()),
        all if all == total => {
            Err(Failure::message(Kind::Annotator, format!("annotator {}: no score at all", annotator.name())))
        }
        some => {
            progress.say(&format!("annotator {}: {some} of {} rows have no score", annotator.name(), total));
            Ok(())
        }
    }
}
