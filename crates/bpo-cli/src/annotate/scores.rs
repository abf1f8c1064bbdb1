//! A score for every completion.
use bpo_annotate::{Annotator, Item};
use bpo_data::{CompletionsRow, Prompt};
use serde_json::{Value, json};

use super::{AnnotateArgs, BATCH, LeftOut, beside};
use crate::{
    annotator::tell,
    failure::{Failure, Kind},
    progress::Progress,
};

/// One completion of a row.
struct Completion<'a> {
    prompt: &'a Prompt,
    given: &'a Value,
    text: &'a str,
}

/// Prints one row per completion that gets a score, in the order of the input.
pub fn run(
    rows: Vec<CompletionsRow>,
    annotator: &mut dyn Annotator,
    args: &AnnotateArgs,
    progress: &Progress,
) -> Result<(), Failure> {
    score(annotator, &[])?;
    let mut sink = args.sink()?;
    let completions: Vec<Completion<'_>> = rows.iter().flat_map(completions).collect();
    let mut stage = progress.stage("scoring", completions.len(), "completions");
    let mut left_out = LeftOut::default();
    for batch in completions.chunks(BATCH) {
        let scores = score(annotator, batch)?;
        for (completion, score) in batch.iter().zip(scores) {
            match score.is_finite() {
                true => stage.hidden(|| sink.json(&completion.scored(&args.score_key, score)))?,
                false => left_out.count("not_a_number"),
            }
        }
        stage.hidden(|| sink.flush())?;
        stage.advance(batch.len());
    }
    stage.finish();
    let scored = completions.len() - left_out.total();
    tell(annotator, progress);
    progress.say(&format!("annotator {}: {scored} scores{}", annotator.name(), left_out.told()));
    match scored {
        0 => Err(Failure::message(Kind::Annotator, format!("annotator {}: no score at all", annotator.name()))),
        _ => Ok(()),
    }
}

fn completions(row: &CompletionsRow) -> impl Iterator<Item = Completion<'_>> {
    row.completions.iter().map(|text| Completion { prompt: &row.prompt, given: &row.given, text })
}

fn score(annotator: &mut dyn Annotator, completions: &[Completion<'_>]) -> Result<Vec<f64>, Failure> {
    let items: Vec<Item> = completions.iter().map(|one| Item::new(one.prompt.text(), one.text)).collect();
    match annotator.score(&items) {
        Some(scores) => Ok(scores?),
        None => Err(Failure::usage(format!("--scores: the annotator {} only compares", annotator.name()))),
    }
}

impl Completion<'_> {
    fn scored(&self, key: &str, score: f64) -> Value {
        json!({"prompt": self.given, "completion": beside(self.prompt, self.text), key: score})
    }
}
