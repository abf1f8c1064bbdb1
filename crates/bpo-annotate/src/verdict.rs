//! The words of the domain: what is compared, and what can be said about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One prompt with two responses, in the order in which they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Comparison {
    /// What both responses answer.
    pub prompt: String,
    /// The response shown first.
    pub first: String,
    /// The response shown second.
    pub second: String,
}

impl Comparison {
    /// The same question with the responses shown the other way round.
    /// Swapping twice gives the comparison back.
    pub fn swap(&self) -> Self {
        Self { prompt: self.prompt.clone(), first: self.second.clone(), second: self.first.clone() }
    }

    /// Whether both responses are the same text, to the byte: there is nothing to prefer, and the code released
    /// with BPO (arXiv:2406.12168) drops the prompt from the step.
    pub fn is_identical(&self) -> bool {
        self.first == self.second
    }
}

/// Which response is better. Never an integer, and never a default:
/// only an explicit `First` or `Second` may train.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The first response is better.
    First,
    /// The second response is better.
    Second,
    /// Neither is better.
    Tie,
    /// There is no answer, for the reason given.
    Abstain(Abstention),
}

impl Verdict {
    /// The higher score wins, strictly; equal scores tie; a score that is not finite abstains.
    pub fn of_scores(first: f64, second: f64) -> Self {
        if !first.is_finite() || !second.is_finite() {
            Self::Abstain(Abstention::NotANumber)
        } else if first > second {
            Self::First
        } else if second > first {
            Self::Second
        } else {
            Self::Tie
        }
    }

    /// The verdict on the swapped comparison. Swapping twice gives the verdict back.
    #[must_use]
    pub fn swap(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
            other => other,
        }
    }

    /// The verdict once ties are settled by `rule`. Abstentions stay: a missing answer is not a tie.
    #[must_use]
    pub fn settled(self, rule: TieRule) -> Self {
        match (self, rule) {
            (Self::Tie, TieRule::First) => Self::First,
            (Self::Tie, TieRule::Second) => Self::Second,
            (verdict, _) => verdict,
        }
    }

    /// Whether this is an explicit preference, the only kind that trains.
    pub fn is_preference(&self) -> bool {
        matches!(self, Self::First | Self::Second)
    }
}

/// What becomes of a tie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TieRule {
    /// It stays a tie, and trains nothing.
    #[default]
    Drop,
    /// The first response counts as better, as in TRL's online DPO.
    First,
    /// The second response counts as better, as in the code released with BPO (arXiv:2406.12168).
    Second,
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Abstention {
    /// A score was NaN, infinite or null.
    NotANumber,
    /// The reply was not in the agreed form; the text says how.
    Malformed(String),
    /// The judge said that it failed, or could not be asked; the text says why.
    Failed(String),
    /// No reply came within the time allowed.
    TimedOut,
    /// A service could not be reached, or the connection to it broke; the text says how.
    Unreachable(String),
    /// A service replied with a status that is no answer; the text has it.
    Status(String),
    /// The judges of a panel do not make a majority, or one whose score is needed gave none; the text says which.
    NoQuorum(String),
}

impl Abstention {
    /// A short stable name, to count abstentions by.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotANumber => "not_a_number",
            Self::Malformed(_) => "malformed",
            Self::Failed(_) => "failed",
            Self::TimedOut => "timed_out",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "http_status",
            Self::NoQuorum(_) => "no_quorum",
        }
    }

    /// The same with another text, where there is one.
    #[must_use]
    pub(crate) fn map(self, change: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::Malformed(text) => Self::Malformed(change(&text)),
            Self::Failed(text) => Self::Failed(change(&text)),
            Self::Unreachable(text) => Self::Unreachable(change(&text)),
            Self::Status(text) => Self::Status(change(&text)),
            Self::NoQuorum(text) => Self::NoQuorum(change(&text)),
            Self::NotANumber | Self::TimedOut => self,
        }
    }
}

impl fmt::Display for Abstention {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANumber => out.write_str("a score is not a finite number"),
            Self::Malformed(how) => write!(out, "malformed reply: {how}"),
            Self::Failed(why) => write!(out, "the judge failed: {why}"),
            Self::TimedOut => out.write_str("no reply in time"),
            Self::Unreachable(how) => write!(out, "the service cannot be reached: {how}"),
            Self::Status(told) => out.write_str(told),
            Self::NoQuorum(who) => write!(out, "the panel has no answer: {who}"),
        }
    }
}

/// A verdict with the scores behind it, where there are any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Which response is better.
    pub verdict: Verdict,
    /// The scores of the first and the second response. Present only when both are finite,
    /// so that a judgement survives JSON unchanged.
    pub scores: Option<[f64; 2]>,
}

impl Judgement {
    /// A verdict without scores.
    pub fn of(verdict: Verdict) -> Self {
        Self { verdict, scores: None }
    }

    /// A judgement that rests on two scores, by [`Verdict::of_scores`].
    pub fn of_scores(first: f64, second: f64) -> Self {
        let finite = first.is_finite() && second.is_finite();
        Self { verdict: Verdict::of_scores(first, second), scores: finite.then_some([first, second]) }
    }

    /// The judgement once ties are settled by `rule`, see [`Verdict::settled`]; the scores stay as they are.
    #[must_use]
    pub fn settled(self, rule: TieRule) -> Self {
        Self { verdict: self.verdict.settled(rule), ..self }
    }

    /// The judgement on the swapped comparison.
    #[must_use]
    pub fn swap(self) -> Self {
        Self { verdict: self.verdict.swap(), scores: self.scores.map(|[first, second]| [second, first]) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            Just(Verdict::First),
            Just(Verdict::Second),
            Just(Verdict::Tie),
            Just(Verdict::Abstain(Abstention::TimedOut)),
            ".*".prop_map(|text| Verdict::Abstain(Abstention::Malformed(text))),
        ]
    }

    proptest! {
        #[test]
        fn swapping_twice_gives_the_verdict_back(verdict in any_verdict()) {
            prop_assert_eq!(verdict.clone().swap().swap(), verdict);
        }

        #[test]
        fn swapping_twice_gives_the_comparison_back(prompt in ".*", first in ".*", second in ".*") {
            let comparison = Comparison { prompt, first, second };
            prop_assert_eq!(comparison.swap().swap(), comparison);
        }

        #[test]
        fn swapped_scores_give_the_swapped_judgement(first in any::<f64>(), second in any::<f64>()) {
            let swapped = Judgement::of_scores(second, first);
            prop_assert_eq!(Judgement::of_scores(first, second).swap(), swapped);
        }

        #[test]
        fn a_judgement_survives_json_unchanged(first in any::<f64>(), second in any::<f64>()) {
            let judgement = Judgement::of_scores(first, second);
            let text = serde_json::to_string(&judgement).unwrap();
            let back: Judgement = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back, judgement);
        }
    }

    #[test]
    fn the_higher_score_wins_strictly() {
        assert_eq!(Verdict::of_scores(1.0, 0.5), Verdict::First);
        assert_eq!(Verdict::of_scores(0.5, 1.0), Verdict::Second);
        assert_eq!(Verdict::of_scores(0.0, -0.0), Verdict::Tie);
    }

    #[test]
    fn a_score_that_is_not_finite_abstains() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for (first, second) in [(bad, 0.0), (0.0, bad), (bad, bad)] {
                let judgement = Judgement::of_scores(first, second);
                assert_eq!(judgement.verdict, Verdict::Abstain(Abstention::NotANumber));
                assert_eq!(judgement.scores, None);
            }
        }
    }

    #[test]
    fn only_a_tie_is_settled() {
        use Verdict::{Abstain, First, Second, Tie};
        let verdicts = || [First, Second, Abstain(Abstention::TimedOut), Tie];
        for (rule, tie) in [(TieRule::Drop, Tie), (TieRule::First, First), (TieRule::Second, Second)] {
            let settled = verdicts().map(|verdict| verdict.settled(rule));
            assert_eq!(settled, [First, Second, Abstain(Abstention::TimedOut), tie.clone()]);
            let judgement = Judgement::of_scores(1.0, 1.0).settled(rule);
            assert_eq!(judgement, Judgement { verdict: tie, scores: Some([1.0, 1.0]) });
        }
        assert_eq!(serde_json::to_string(&TieRule::default()).unwrap(), r#""drop""#);
    }

    #[test]
    fn verdicts_are_written_in_snake_case() {
        let text = |verdict: Verdict| serde_json::to_string(&verdict).unwrap();
        assert_eq!(text(Verdict::First), r#""first""#);
        assert_eq!(text(Verdict::Abstain(Abstention::NotANumber)), r#"{"abstain":"not_a_number"}"#);
    }
}
