//! The best and the worst completion of every prompt.
use std::collections::{HashMap, VecDeque};

use bpo_annotate::{Annotator, Contest, Extremes, Undecided, extremes};
use bpo_data::{CompletionsRow, Prompt};
use serde_json::{Value, json};

use super::{AnnotateArgs, BATCH, LeftOut, beside};
use crate::{
    annotator::tell,
    data::RowSource,
    failure::{Failure, Kind},
    progress::Progress,
};

/// Comparisons held at once, where one prompt alone has no more.
const QUESTIONS: usize = 1024;

/// A prompt as it is read and as it was given.
type Given = (Prompt, Value);
/// 16 bytes of a hash of a prompt as it was given.
type Key = [u8; 16];

/// What is known of the prompts before any is judged.
pub struct Plan {
    /// Rows of each prompt that are still to come.
    rows: HashMap<Key, u32>,
    /// The most completions that a prompt has.
    most: usize,
}

impl Plan {
    /// Rows of the same prompt, wherever they are, make one contest: which do is known from hashes.
    pub fn of(source: &RowSource) -> Result<Self, Failure> {
        let mut seen: HashMap<Key, (u32, u32)> = HashMap::new();
        source.reader().each_completions(|row| {
            let (rows, completions) = seen.entry(key(&row.given)).or_default();
            *rows += 1;
            *completions += u32::try_from(row.completions.len()).unwrap_or(u32::MAX);
            Ok::<_, Failure>(())
        })?;
        let most = seen.values().map(|(_, completions)| *completions).max().unwrap_or(0) as usize;
        if most < 2 {
            return Err(Failure::input("no prompt has two completions to compare: see `bpo generate --samples`"));
        }
        Ok(Self { rows: seen.into_iter().map(|(key, (rows, _))| (key, rows)).collect(), most })
    }
}

fn key(given: &Value) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&blake3::hash(given.to_string().as_bytes()).as_bytes()[..16]);
    key
}

/// A prompt of which rows are still to come, or which waits for one before it.
struct Open {
    key: Key,
    given: Given,
    contest: Contest,
    /// Its rows that are still to come.
    left: u32,
}

/// Prints one row per prompt with a preference, in the order in which the prompts come up. A prompt is held until its last
/// row, and that of every prompt before it, has come.
pub fn run(
    source: &RowSource,
    plan: Plan,
    annotator: &mut dyn Annotator,
    args: &AnnotateArgs,
    progress: &Progress,
) -> Result<(), Failure> {
    let Plan { rows: mut to_come, most } = plan;
    let total = to_come.len();
    let mut sink = args.sink()?;
    let mut stage = progress.stage("judging", total, "prompts");
    let (mut left_out, mut abstained) = (LeftOut::default(), None);
    let batch = (QUESTIONS / (most * (most - 1) / 2)).clamp(1, BATCH);
    let mut judge = |open: Vec<Open>| -> Result<(), Failure> {
        let (prompts, contests): (Vec<Given>, Vec<Contest>) =
            open.into_iter().map(|open| (open.given, open.contest)).unzip();
        let found = extremes(annotator, &contests).inspect_err(|_| tell(annotator, progress))?;
        for ((prompt, contest), found) in prompts.iter().zip(&contests).zip(found) {
            match found {
                Ok(found) => stage.hidden(|| sink.json(&pair(prompt, contest, &found)))?,
                Err(why) => {
                    left_out.count(why.reason());
                    abstained = matches!(why, Undecided::Abstained(_)).then(|| why.to_string()).or(abstained.take());
                }
            }
        }
        stage.hidden(|| sink.flush())?;
        stage.advance(contests.len());
        Ok(())
    };
    let (mut open, mut gone): (VecDeque<Open>, usize) = (VecDeque::new(), 0);
    let mut places: HashMap<Key, usize> = HashMap::new();
    source.reader().each_completions(|CompletionsRow { prompt, given, completions, .. }| {
        let key = key(&given);
        let place = *places.entry(key).or_insert(gone + open.len());
        if place == gone + open.len() {
            let (contest, left) = (Contest { prompt: prompt.text(), responses: Vec::new() }, to_come.remove(&key));
            open.push_back(Open { key, given: (prompt, given), contest, left: left.unwrap_or(1) });
        }
        let one = &mut open[place - gone];
        one.contest.responses.extend(completions);
        one.left = one.left.saturating_sub(1);
        while open.iter().take(batch).take_while(|open| open.left == 0).count() == batch {
            let whole: Vec<Open> = open.drain(..batch).collect();
            gone += whole.len();
            for open in &whole {
                places.remove(&open.key);
            }
            judge(whole)?;
        }
        Ok::<_, Failure>(())
    })?;
    while !open.is_empty() {
        judge(open.drain(..batch.min(open.len())).collect())?;
    }
    stage.finish();
    let pairs = total - left_out.total();
    let name = annotator.name();
    progress.say(&format!("annotator {name}: {pairs} pairs of {total} prompts{}", left_out.told()));
    tell(annotator, progress);
    match abstained {
        Some(why) if pairs == 0 => {
            Err(Failure::message(Kind::Annotator, format!("annotator {name}: no verdict at all (last reason: {why})")))
        }
        _ => Ok(()),
    }
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
