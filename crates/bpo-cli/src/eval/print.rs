//! What was found, for people, programs and spreadsheets.
use std::{fs::File, io::Error, path::Path, path::PathBuf};

use bpo_train::{Diversity, EvalPrompt, Interval, bootstrap_mean, length_controlled_win_rate, sized_wins};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    distribution::{Distribution, SHARES},
    side::Responses,
};
use crate::{
    failure::{Failure, Kind, io_failure},
    out::Out,
};

/// Said where the judge is the one that the policy was trained to please.
pub const SAME_JUDGE: &str = "note: this annotator trained the policy, which may have learned its blind spots; use \
                              another --annotator to see whether the gain is real";

/// Prompts, responses, and what the annotator said.
pub struct Found {
    /// The prompts.
    pub prompts: Vec<EvalPrompt>,
    /// Responses of the policy that is evaluated.
    pub ours: Responses,
    /// Those of the other side.
    pub theirs: Option<Responses>,
    /// Scores of ours.
    pub scores: Option<Vec<Option<f64>>>,
    /// Wins of ours over the reference texts.
    pub reference_wins: Option<Vec<Option<f64>>>,
    /// Scores of theirs.
    pub their_scores: Option<Vec<Option<f64>>>,
    /// Wins of ours over theirs.
    pub wins: Option<Vec<Option<f64>>>,
}

/// Everything in a few numbers. Lengths are means, in tokens and in characters.
#[derive(Debug, Serialize)]
pub struct Totals {
    prompts: usize,
    annotator: String,
    annotator_trained_policy: bool,
    score: Option<Interval>,
    score_distribution: Option<Distribution>,
    reference_win_rate: Option<Interval>,
    reference_win_rate_length_controlled: Option<Interval>,
    against_score: Option<Interval>,
    against_score_distribution: Option<Distribution>,
    win_rate: Option<Interval>,
    win_rate_length_controlled: Option<Interval>,
    abstained: Option<usize>,
    kl: Option<f64>,
    length: Option<f64>,
    characters: f64,
    against_length: Option<f64>,
    against_characters: Option<f64>,
    distinct: f64,
    #[serde(flatten)]
    diversity: Diversity,
    contain_eos_token: Option<f64>,
}

impl Totals {
    /// Of what was found by an annotator of this name.
    pub fn of(found: &Found, annotator: String, annotator_trained_policy: bool, seed: u64) -> Self {
        let Found { prompts, ours, theirs, scores, reference_wins, their_scores, wins } = found;
        let interval = |values: &Option<Vec<Option<f64>>>| {
            bootstrap_mean(&values.iter().flatten().flatten().copied().collect::<Vec<_>>(), seed)
        };
        let distribution =
            |scores: &Option<Vec<Option<f64>>>| Distribution::of(scores.iter().flatten().flatten().copied());
        let texts = ours.texts();
        let controlled = |wins: &[Option<f64>], others: Vec<&str>| {
            length_controlled_win_rate(&sized_wins(wins, texts.iter().copied(), others.into_iter()), seed)
        };
        let references = || prompts.iter().map(|eval| eval.reference.as_deref().unwrap_or_default()).collect();
        let lengths = |side: &Responses| Some(mean(side.lengths.as_ref()?.iter().map(|length| *length as f64)));
        let characters = |side: &Responses| mean(side.texts().iter().map(|text| text.chars().count() as f64));
        let different: std::collections::HashSet<&str> = texts.iter().copied().collect();
        let abstained = |wins: &Vec<Option<f64>>| wins.iter().filter(|win| win.is_none()).count();
        Self {
            prompts: prompts.len(),
            annotator,
            annotator_trained_policy,
            score: interval(scores),
            score_distribution: distribution(scores),
            reference_win_rate: interval(reference_wins),
            reference_win_rate_length_controlled: reference_wins
                .as_ref()
                .and_then(|wins| controlled(wins, references())),
            against_score: interval(their_scores),
            against_score_distribution: distribution(their_scores),
            win_rate: interval(wins),
            win_rate_length_controlled: wins.as_ref().zip(theirs.as_ref()).and_then(|(w, t)| controlled(w, t.texts())),
            abstained: wins.as_ref().map(abstained),
            kl: ours.log_ratios.as_ref().map(|ratios| mean(ratios.iter().copied())),
            length: lengths(ours),
            characters: characters(ours),
            against_length: theirs.as_ref().and_then(lengths),
            against_characters: theirs.as_ref().map(characters),
            distinct: different.len() as f64 / texts.len().max(1) as f64,
            diversity: Diversity::of(texts.iter().copied()),
            contain_eos_token: ours.finished,
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// One prompt's row; the names are those of the JSON keys and of the CSV columns.
#[derive(Serialize)]
struct Row<'a> {
    prompt: &'a str,
    response: &'a str,
    reference: Option<&'a str>,
    score: Option<f64>,
    reference_win: Option<f64>,
    against: Option<&'a str>,
    against_score: Option<f64>,
    win: Option<f64>,
    length: Option<usize>,
}

impl Found {
    fn rows(&self) -> Vec<Row<'_>> {
        let (ours, theirs) = (self.ours.texts(), self.theirs.as_ref().map(Responses::texts));
        let of = |values: &Option<Vec<Option<f64>>>, index: usize| values.as_ref().and_then(|values| values[index]);
        let rows = self.prompts.iter().enumerate().map(|(index, eval)| Row {
            prompt: &eval.prompt.text,
            response: ours[index],
            reference: eval.reference.as_deref(),
            score: of(&self.scores, index),
            reference_win: of(&self.reference_wins, index),
            against: theirs.as_ref().map(|texts| texts[index]),
            against_score: of(&self.their_scores, index),
            win: of(&self.wins, index),
            length: self.ours.lengths.as_ref().map(|lengths| lengths[index]),
        });
        rows.collect()
    }
}

/// One line per prompt and the totals.
pub fn json(found: &Found, totals: &Totals, out: &mut Out) -> Result<(), Failure> {
    for row in found.rows() {
        out.json(&serde_json::to_value(row).map_err(|error| Failure::new(Kind::Internal, error))?)?;
    }
    out.json(&json!({"totals": totals}))
}

/// A CSV file with a row for each prompt, begun before the work so that a wrong path does not cost it.
pub struct Csv {
    path: PathBuf,
    writer: csv::Writer<File>,
}

impl Csv {
    /// Empties the file at `path`.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| io_failure(path, &error))?;
        Ok(Self { path: path.to_owned(), writer: csv::Writer::from_writer(file) })
    }

    /// Writes the rows.
    pub fn write(&mut self, found: &Found) -> Result<(), Failure> {
        let failed = |error: Error| io_failure(&self.path, &error);
        for row in found.rows() {
            self.writer.serialize(row).map_err(|error| failed(error.into()))?;
        }
        self.writer.flush().map_err(failed)
    }
}

/// A line for each number.
pub fn text(totals: &Totals, out: &mut Out) -> Result<(), Failure> {
    let value = serde_json::to_value(totals).map_err(|error| Failure::new(Kind::Internal, error))?;
    for (name, value) in value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        if let Some(quantiles) = value.get("quantiles").and_then(Value::as_array) {
            let numbers = SHARES.iter().zip(quantiles.iter().filter_map(Value::as_f64));
            let numbers: Vec<String> = numbers.map(|(share, number)| format!("{share} %: {number:.4}")).collect();
            let name = name.replace("distribution", "quantiles");
            out.line(&format!("{name:<38}{}", numbers.join("  ")))?;
            continue;
        }
        let text = match (serde_json::from_value::<Interval>(value.clone()), value.as_f64()) {
            (Ok(interval), _) => format!("{:.4}  [{:.4}, {:.4}]", interval.mean, interval.low, interval.high),
            (_, Some(number)) if number.fract() != 0.0 => format!("{number:.4}"),
            _ if name == "annotator_trained_policy" => continue,
            _ => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        };
        out.line(&format!("{name:<38}{text}"))?;
    }
    if totals.annotator_trained_policy { out.line(SAME_JUDGE) } else { Ok(()) }
}
