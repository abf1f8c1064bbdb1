//! OPTune's reuse of pairs: in each phase only the prompts of the lowest scores are answered anew.
//! Chen et al. 2024, arXiv:2406.07657. The paper leaves open what prompts are ranked by: here it is the mean score of
//! the pair they have.
use std::collections::{HashMap, HashSet};

use bpo_annotate::lowest_fraction;
use bpo_store::Journal;

use crate::{
    Drawn, Error, RefreshSchedule, TrainPrompt,
    choice::Choice,
    collect::{Collected, SAMPLED, recorded_choices},
};

/// The pairs a run has, by prompt.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    latest: HashMap<usize, Collected>,
    /// Prompts to be answered anew in this phase, of those that have a pair.
    renew: HashSet<usize>,
    /// Share of them; 1 keeps nothing.
    fraction: f64,
}

impl Replay {
    /// What the steps before `step` left, read back from their journal.
    ///
    /// # Errors
    /// From the journal.
    pub fn restored(
        fraction: f64,
        schedule: &RefreshSchedule,
        journal: &mut Journal,
        step: u64,
    ) -> Result<Self, Error> {
        let mut replay = Self { fraction, ..Self::default() };
        if fraction >= 1.0 {
            return Ok(replay);
        }
        for at in 0..step {
            if schedule.due(at) {
                replay.begin_phase();
            }
            let drawn: Vec<Drawn> = journal.once(at, SAMPLED, || Err(missing(at, SAMPLED)))?;
            let choices = recorded_choices(journal, at)?.ok_or_else(|| missing(at, "judged"))?;
            for (drawn, choice) in drawn.into_iter().zip(choices) {
                replay.keep(Collected { drawn, choice, at });
            }
        }
        Ok(replay)
    }

    /// A new behaviour policy: decides which prompts it answers.
    pub fn begin_phase(&mut self) {
        // Of equal scores the oldest pair goes first: without scores the prompts then take turns.
        let mut scored: Vec<(u64, usize, f64)> =
            self.latest.iter().map(|(&prompt, pair)| (pair.at, prompt, mean_score(&pair.choice))).collect();
        scored.sort_unstable_by_key(|&(at, prompt, _)| (at, prompt));
        let scores: Vec<f64> = scored.iter().map(|(.., score)| *score).collect();
        self.renew = lowest_fraction(&scores, self.fraction).into_iter().map(|index| scored[index].1).collect();
    }

    /// Whether `prompt` is to be answered now.
    pub fn wants(&self, prompt: &TrainPrompt) -> bool {
        self.fraction >= 1.0 || !self.latest.contains_key(&prompt.id) || self.renew.contains(&prompt.id)
    }

    /// The answers to all of a step's prompts: `fresh` ones for those that were `asked`, kept ones for the others.
    pub fn completed(&mut self, prompts: &[TrainPrompt], asked: &[bool], fresh: Vec<Collected>) -> Vec<Collected> {
        if self.fraction >= 1.0 {
            return fresh;
        }
        let mut fresh = fresh.into_iter();
        let mut all = Vec::with_capacity(prompts.len());
        for (prompt, &asked) in prompts.iter().zip(asked) {
            let collected = if asked { fresh.next() } else { self.latest.get(&prompt.id).cloned() };
            if let Some(collected) = collected {
                if asked {
                    self.keep(collected.clone());
                }
                all.push(collected);
            }
        }
        all
    }

    fn keep(&mut self, collected: Collected) {
        self.renew.remove(&collected.drawn.prompt);
        self.latest.insert(collected.drawn.prompt, collected);
    }
}

/// Mean score of the two that were compared; a pair without scores is the first to be renewed.
fn mean_score(choice: &Choice) -> f64 {
    let scores = choice.pair.map(|candidate| choice.score(candidate));
    scores.into_iter().map(|score| score.unwrap_or(f64::NEG_INFINITY)).sum::<f64>() / 2.0
}

fn missing(step: u64, kind: &str) -> Error {
    Error::Data(format!("the journal has no \"{kind}\" of step {step}"))
}
