//! The best and the worst completion of every prompt.
use std::collections::HashMap;

use bpo_annotate::{Annotator, Contest, Extremes, Undecided, extremes};
use bpo_data::{CompletionsRow, Prompt};
use serde_json::{Value, json};

use super::{AnnotateArgs, BATCH, LeftOut, beside};
use crate::{
    annotator::tell,
    failure::{Failure, Kind},
    progress::Progress,
};

/// Comparisons held at once, where one prompt alone has no more.
const QUESTIONS: usize = 1024;

/// A prompt as it is read and as it was given.
type Given = (Prompt, Value);

/// Prints one row per prompt with a preference, in the order in which the prompts come up.
pub fn run(
    rows: Vec<CompletionsRow>,
    annotator: &mut dyn Annotator,
    args: &AnnotateArgs,
    progress: &Progress,
) -> Result<(), Failure> {
    let (prompts, contests) = group(rows);
    let most = contests.iter().map(|contest| contest.responses.len()).max().unwrap_or(0);
    if most < 2 {
        return Err(Failure::input("no prompt has two completions to compare: see `bpo generate --samples`"));
    }
    let mut sink = args.sink()?;
    let mut stage = progress.stage("judging", contests.len(), "prompts");
    let (mut left_out, mut abstained) = (LeftOut::default(), None);
    let batch = (QUESTIONS / (most * (most - 1) / 2)).clamp(1, BATCH);
    for (prompts, contests) in prompts.chunks(batch).zip(contests.chunks(batch)) {
        let found = extremes(annotator, contests).inspect_err(|_| tell(annotator, progress))?;
        for ((prompt, contest), found) in prompts.iter().zip(contests).zip(found) {
            match found {
                Ok(found) => stage.hidden(|| sink.json(&pair(prompt, contest, &found)))?,
                Err(why) => {
                    left_out.count(why.reason());
                    abstained = matches!(why, Undecided::Abstained(_)).then(|| why.to_string()).or(abstained);
                }
            }
        }
        stage.hidden(|| sink.flush())?;
        stage.advance(contests.len());
    }
    stage.finish();
    let pairs = contests.len() - left_out.total();
    let name = annotator.name();
    progress.say(&format!("annotator {name}: {pairs} pairs of {} prompts{}", contests.len(), left_out.told()));
    tell(annotator, progress);
    match abstained {
        Some(why) if pairs == 0 => {
            Err(Failure::message(Kind::Annotator, format!("annotator {name}: no verdict at all (last reason: {why})")))
        }
        _ => Ok(()),
    }
}

/// Rows of the same prompt, wherever they are, make one contest.
fn group(rows: Vec<CompletionsRow>) -> (Vec<Given>, Vec<Contest>) {
    let (mut prompts, mut contests) = (Vec::new(), Vec::<Contest>::new());
    let mut places = HashMap::new();
    for CompletionsRow { prompt, given, completions, .. } in rows {
        let place = *places.entry(given.to_string()).or_insert(contests.len());
        if place == contests.len() {
            contests.push(Contest { prompt: prompt.text(), responses: Vec::new() });
            prompts.push((prompt, given));
        }
        contests[place].responses.extend(completions);
    }
    (prompts, contests)
}

fn pair((prompt, given): &Given, contest: &Contest, found: &Extremes) -> Value {
    let text = |place: usize| beside(prompt, &contest.responses[place]);
    let mut row = json!({"prompt": given, "chosen": text(found.best), "rejected": text(found.worst)});
    if let Some([chosen, rejected]) = found.scores {
        row["score_chosen"] = json!(chosen);
        row["score_rejected"] = json!(rejected);
    }
    row
}
