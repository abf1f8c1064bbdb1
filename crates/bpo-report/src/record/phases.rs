//! The phases of data collection: what was judged in each, and one pair of each.
use bpo_annotate::Verdict;
use bpo_store::JournalView;
use serde_json::{Map, Value};

use super::{Choice, Drawn, Exchange, JudgedPair, Response, Texts, log_ratios, recorded};
use crate::Error;

/// A phase of data collection, or several neighbours.
#[derive(Debug, Clone, Default)]
pub struct Phase {
    /// First and last phase, from 0.
    pub numbers: [u64; 2],
    /// First and last step, from 1.
    pub steps: [u64; 2],
    /// Means of the phase's metrics, by key.
    pub means: std::collections::BTreeMap<String, f64>,
    /// Verdicts that train.
    pub preferred: u64,
    /// Verdicts that do not.
    pub undecided: u64,
    /// Scores of preferred completions, and of the others of their pairs.
    pub scores: [Vec<f64>; 2],
    /// One of its pairs.
    pub pair: Option<Exchange>,
}

impl Phase {
    /// `phase 3`, or `phases 3 to 5`, as people count.
    pub fn name(&self) -> String {
        let [first, last] = self.numbers.map(|number| number + 1);
        if first == last { format!("phase {first}") } else { format!("phases {first} to {last}") }
    }
}

/// At most `most` phases, neighbours being put together, and where each of all phases begins.
pub(super) fn phases(
    metrics: &[Map<String, Value>],
    judged: Option<(&JournalView, &[JudgedPair])>,
    most: usize,
    texts: &dyn Texts,
) -> Result<(Vec<Phase>, Vec<f64>), Error> {
    let whole = |line: &Map<String, Value>, key: &str| line.get(key).and_then(Value::as_u64);
    let mut runs: Vec<(u64, Vec<&Map<String, Value>>)> = Vec::new();
    for line in metrics {
        let phase = whole(line, "phase").unwrap_or(0);
        match runs.last_mut() {
            Some((last, lines)) if *last == phase => lines.push(line),
            _ => runs.push((phase, vec![line])),
        }
    }
    let first_step = |lines: &[&Map<String, Value>]| lines.first().and_then(|line| whole(line, "step")).unwrap_or(1);
    let boundaries = runs.iter().map(|(_, lines)| first_step(lines).saturating_sub(1) as f64).collect();
    let mut phases = Vec::new();
    for group in runs.chunks(runs.len().div_ceil(most).max(1)) {
        let lines: Vec<&Map<String, Value>> = group.iter().flat_map(|(_, lines)| lines).copied().collect();
        let mut phase = Phase {
            numbers: [group[0].0, group[group.len() - 1].0],
            steps: [first_step(&lines), lines.last().and_then(|line| whole(line, "step")).unwrap_or(0)],
            means: means(&lines),
            ..Phase::default()
        };
        if let Some((journal, trained)) = judged {
            phase.judged(journal, trained, texts)?;
        }
        phases.push(phase);
    }
    Ok((phases, boundaries))
}

fn means(lines: &[&Map<String, Value>]) -> std::collections::BTreeMap<String, f64> {
    let mut sums: std::collections::BTreeMap<String, (f64, f64)> = Default::default();
    for (key, value) in lines.iter().flat_map(|line| line.iter()) {
        if let Some(value) = value.as_f64() {
            let (sum, count) = sums.entry(key.clone()).or_default();
            (*sum, *count) = (*sum + value, *count + 1.0);
        }
    }
    sums.into_iter().map(|(key, (sum, count))| (key, sum / count)).collect()
}

impl Phase {
    /// Reads the phase's verdicts, and its first pair that can be shown.
    fn judged(&mut self, journal: &JournalView, trained: &[JudgedPair], texts: &dyn Texts) -> Result<(), Error> {
        for step in self.steps[0].saturating_sub(1)..self.steps[1] {
            let mut choices: Vec<Choice> = Vec::new();
            for part in 0.. {
                let kind = if part == 0 { "judged".to_owned() } else { format!("judged/{part}") };
                match recorded::<Vec<Choice>>(journal, step, &kind)? {
                    Some(part) => choices.extend(part),
                    None => break,
                }
            }
            choices.iter().for_each(|choice| self.count(choice));
            if self.pair.is_none() && choices.iter().any(is_decided) {
                let drawn = recorded::<Vec<Drawn>>(journal, step, "sampled")?.unwrap_or_default();
                let mut judged = drawn.iter().zip(&choices).enumerate();
                self.pair = judged.find_map(|(place, (drawn, choice))| {
                    let trained = trained.iter().find(|pair| (pair.step, pair.place) == (step, place));
                    pair(step, (drawn, choice), trained, texts)
                });
            }
        }
        Ok(())
    }

    fn count(&mut self, choice: &Choice) {
        let [first, second] = choice.scores();
        let (preferred, other) = match choice.verdict {
            Verdict::First => (first, second),
            Verdict::Second => (second, first),
            Verdict::Tie | Verdict::Abstain(_) => {
                self.undecided += 1;
                return;
            }
        };
        self.preferred += 1;
        self.scores[0].extend(preferred);
        self.scores[1].extend(other);
    }
}

fn is_decided(choice: &Choice) -> bool {
    matches!(choice.verdict, Verdict::First | Verdict::Second)
}

fn pair(
    step: u64,
    (drawn, choice): (&Drawn, &Choice),
    trained: Option<&JudgedPair>,
    texts: &dyn Texts,
) -> Option<Exchange> {
    let order = match choice.verdict {
        Verdict::First => [0, 1],
        Verdict::Second => [1, 0],
        Verdict::Tie | Verdict::Abstain(_) => return None,
    };
    let response = |title: &str, place: usize| {
        let sample = drawn.samples.get(choice.pair[place])?;
        let ratios = trained.and_then(|trained| log_ratios(trained.logps.get(place)?, &sample.logps));
        Some(Response::of(title.to_owned(), sample, choice.scores()[place], ratios, texts))
    };
    Some(Exchange {
        title: format!("Step {}", step + 1),
        prompt: texts.prompt(drawn.prompt),
        responses: [response("chosen", order[0])?, response("rejected", order[1])?],
        verdict: Some(format!("shown {} and preferred", ["first", "second"][order[0]])),
    })
}
