//! A score for every completion.
use bpo_annotate::{Annotator, Item};
use bpo_data::{CompletionsRow, Prompt};
use serde_json::{Value, json};

use super::{AnnotateArgs, BATCH, LeftOut, beside};
use crate::{
    annotator::tell,
    data::RowSource,
    failure::{Failure, Kind},
    progress::Progress,
};

/// One completion of a row.
struct Completion {
    prompt: Prompt,
    given: Value,
    text: String,
}

/// Completions of all rows.
pub fn count(rows: &RowSource) -> Result<usize, Failure> {
    let mut total = 0;
    rows.reader().each_completions(|row| {
        total += row.completions.len();
        Ok::<_, Failure>(())
    })?;
    Ok(total)
}

/// Prints one row per completion that gets a score, in the order of the input, of which a batch is held at a time.
pub fn run(
    rows: &RowSource,
    total: usize,
    annotator: &mut dyn Annotator,
    args: &AnnotateArgs,
    progress: &Progress,
) -> Result<(), Failure> {
    score(annotator, &[])?;
    let mut sink = args.sink()?;
    let mut stage = progress.stage("scoring", total, "completions");
    let mut left_out = LeftOut::default();
    let mut judge = |batch: &[Completion]| -> Result<(), Failure> {
        for (completion, score) in batch.iter().zip(score(annotator, batch)?) {
            match score.is_finite() {
                true => stage.hidden(|| sink.json(&completion.scored(&args.score_key, score)))?,
                false => left_out.count("not_a_number"),
            }
        }
        stage.hidden(|| sink.flush())?;
        stage.advance(batch.len());
        Ok(())
    };
    let mut batch = Vec::with_capacity(BATCH);
    rows.reader().each_completions(|CompletionsRow { prompt, given, completions, .. }| {
        for text in completions {
            batch.push(Completion { prompt: prompt.clone(), given: given.clone(), text });
            if batch.len() == BATCH {
                judge(&batch)?;
                batch.clear();
            }
        }
        Ok::<_, Failure>(())
    })?;
    if !batch.is_empty() {
        judge(&batch)?;
    }
    stage.finish();
    let scored = total - left_out.total();
    tell(annotator, progress);
    progress.say(&format!("annotator {}: {scored} scores{}", annotator.name(), left_out.told()));
    match scored {
        0 => Err(Failure::message(Kind::Annotator, format!("annotator {}: no score at all", annotator.name()))),
        _ => Ok(()),
    }
}

fn score(annotator: &mut dyn Annotator, completions: &[Completion]) -> Result<Vec<f64>, Failure> {
    let items: Vec<Item> = completions.iter().map(|one| Item::new(one.prompt.text(), one.text.as_str())).collect();
    match annotator.score(&items) {
        Some(scores) => Ok(scores?),
        None => Err(Failure::usage(format!("--scores: the annotator {} only compares", annotator.name()))),
    }
}

impl Completion {
    fn scored(&self, key: &str, score: f64) -> Value {
        json!({"prompt": self.given, "completion": beside(&self.prompt, &self.text), key: score})
    }
}
