//! What a run came to.
use bpo_annotate::{Annotator, Statistics};
use serde::Serialize;

use crate::{
    EvalPrompt, Evaluation, Interval, bootstrap_mean, length_controlled_win_rate, sized_wins, state::Counters,
};

/// What the run came to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Steps done.
    pub steps: u64,
    /// Pairs trained on.
    pub pairs: u64,
    /// Completions sampled for training.
    pub sampled: u64,
    /// Pairs that did not train, by reason.
    pub dropped: std::collections::BTreeMap<String, u64>,
    /// The annotator's name.
    pub annotator: String,
    /// What the annotator did since the program was last started, where it has anything to tell.
    #[serde(skip_serializing_if = "Statistics::is_empty")]
    pub annotator_statistics: Statistics,
    /// Held-out prompts.
    pub eval_prompts: usize,
    /// Mean score before and after.
    pub scores: Option<[Interval; 2]>,
    /// Win rate against the reference texts before and after.
    pub reference_win_rate: Option<[Interval; 2]>,
    /// Win rate against the reference texts at equal lengths, before and after.
    pub reference_win_rate_length_controlled: Option<[Interval; 2]>,
    /// Win rate of the trained policy against the start; ties count half.
    pub win_rate: Option<Interval>,
    /// The same at equal lengths: [`crate::length_controlled_win_rate`].
    pub win_rate_length_controlled: Option<Interval>,
    /// KL(trained ‖ start), nats per response.
    pub kl: Option<f64>,
    /// Mean response length in tokens before and after.
    pub length: [f64; 2],
    /// Share of different responses before and after.
    pub distinct: [f64; 2],
    /// Held-out responses of both.
    pub samples: Vec<SamplePair>,
    /// Where the trained policy lies, inside the run directory.
    pub output: String,
    /// The evaluations, from the start to the end.
    pub curve: Vec<CurvePoint>,
}

impl Report {
    /// What `curve`, from start to end, and the counters of the run say together.
    pub(crate) fn of(
        counters: &Counters,
        annotator: &dyn Annotator,
        eval_prompts: usize,
        curve: Vec<CurvePoint>,
        samples: Vec<SamplePair>,
        output: String,
    ) -> Self {
        let (first, last) = (curve.first(), curve.last());
        let both = |of: fn(&CurvePoint) -> Option<Interval>| Some([first.and_then(of)?, last.and_then(of)?]);
        let ends = |of: fn(&CurvePoint) -> f64| [first, last].map(|point| point.map_or(0.0, of));
        Self {
            steps: last.map_or(0, |point| point.step),
            pairs: counters.pairs,
            sampled: counters.sampled,
            dropped: counters.dropped.clone(),
            annotator: annotator.name(),
            annotator_statistics: annotator.statistics(),
            eval_prompts,
            scores: both(|point| point.score),
            reference_win_rate: both(|point| point.reference_win_rate),
            reference_win_rate_length_controlled: both(|point| point.reference_win_rate_length_controlled),
            win_rate: last.and_then(|point| point.win_rate),
            win_rate_length_controlled: last.and_then(|point| point.win_rate_length_controlled),
            kl: last.and_then(|point| point.kl),
            length: ends(|point| point.length),
            distinct: ends(|point| point.distinct),
            samples,
            output,
            curve,
        }
    }
}

/// The policy on the held-out prompts at one moment of the run.
#[derive(Debug, Clone, Serialize)]
pub struct CurvePoint {
    /// Steps done.
    pub step: u64,
    /// Mean score.
    pub score: Option<Interval>,
    /// Win rate against the reference texts.
    pub reference_win_rate: Option<Interval>,
    /// The same at equal lengths.
    pub reference_win_rate_length_controlled: Option<Interval>,
    /// Win rate against the start; ties count half.
    pub win_rate: Option<Interval>,
    /// The same at equal lengths: [`crate::length_controlled_win_rate`].
    pub win_rate_length_controlled: Option<Interval>,
    /// KL(policy ‖ start), nats per response.
    pub kl: Option<f64>,
    /// Mean response length in tokens.
    pub length: f64,
    /// Share of different responses.
    pub distinct: f64,
}

impl CurvePoint {
    /// What `evaluation`, of the policy after `step` steps, came to on `prompts`; with its wins over the start, and how
    /// long the start's texts were.
    pub(crate) fn of(
        step: u64,
        evaluation: &Evaluation,
        prompts: &[EvalPrompt],
        over_start: Option<(&[Option<f64>], &Evaluation)>,
        seed: u64,
    ) -> Self {
        let plain = |wins: &[Option<f64>]| bootstrap_mean(&wins.iter().flatten().copied().collect::<Vec<_>>(), seed);
        let sized = |(wins, start): (&[Option<f64>], &Evaluation)| sized_wins(wins, evaluation.texts(), start.texts());
        Self {
            step,
            score: evaluation.mean_score(seed),
            reference_win_rate: evaluation.reference_win_rate(seed),
            reference_win_rate_length_controlled: evaluation.length_controlled_reference_win_rate(prompts, seed),
            win_rate: over_start.and_then(|(wins, _)| plain(wins)),
            win_rate_length_controlled: over_start.and_then(|over| length_controlled_win_rate(&sized(over), seed)),
            kl: evaluation.kl,
            length: evaluation.mean_length(),
            distinct: evaluation.distinct(),
        }
    }
}

/// One held-out prompt, answered before and after.
#[derive(Debug, Clone, Serialize)]
pub struct SamplePair {
    /// The prompt.
    pub prompt: String,
    /// The start's response.
    pub before: String,
    /// The trained policy's.
    pub after: String,
    /// Their scores.
    pub scores: Option<[f64; 2]>,
}

/// Sample pairs in a report.
const SAMPLE_PAIRS: usize = 3;

impl SamplePair {
    /// The first held-out prompts with what both policies answered.
    pub(crate) fn first(prompts: &[&str], before: &Evaluation, after: &Evaluation) -> Vec<Self> {
        let score = |evaluation: &Evaluation, index: usize| evaluation.scores.as_ref()?.get(index).copied().flatten();
        let texts = before.texts().zip(after.texts());
        let pair = |(index, (prompt, (old, new))): (usize, (&&str, (&str, &str)))| Self {
            prompt: (*prompt).to_string(),
            before: old.to_string(),
            after: new.to_string(),
            scores: score(before, index).zip(score(after, index)).map(|(old, new)| [old, new]),
        };
        prompts.iter().zip(texts).enumerate().take(SAMPLE_PAIRS).map(pair).collect()
    }
}
