//! The best and the worst of K responses: what a preference pair is made of.

use std::fmt;

use crate::{Abstention, Annotator, Comparison, Error, Judgement, Verdict, compare_distinct};

/// K responses to one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    /// What the responses answer.
    pub prompt: String,
    /// The responses, at least two for anything to come of it.
    pub responses: Vec<String>,
}

/// The response that wins most and the one that loses most, by their places among the responses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extremes {
    /// Place of the best response.
    pub best: usize,
    /// Place of the worst response.
    pub worst: usize,
    /// The scores of the best and the worst, where the annotator gives scores.
    pub scores: Option<[f64; 2]>,
}

/// Why a contest has no best and no worst response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undecided {
    /// No response is better than another.
    Tie,
    /// There is no verdict, for the reason given.
    Abstained(Abstention),
    /// The verdicts go in a circle.
    Contradicted,
    /// There are no two responses.
    Alone,
}

impl Undecided {
    /// A short stable name, to count by; an abstention has that of its own reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Tie => "tie",
            Self::Abstained(why) => why.reason(),
            Self::Contradicted => "contradicted",
            Self::Alone => "one_completion",
        }
    }
}

impl fmt::Display for Undecided {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tie => out.write_str("no response is better than another"),
            Self::Abstained(why) => why.fmt(out),
            Self::Contradicted => out.write_str("the verdicts go in a circle"),
            Self::Alone => out.write_str("there are no two responses"),
        }
    }
}

/// Finds the best and the worst response of each contest by wins minus losses over all pairs
/// (Copeland's method); the earlier response where several are level.
///
/// Of K responses all K(K−1)/2 pairs are asked about, in one batch over all contests: an annotator
/// that scores does so once per response, and nothing depends on a lucky order of rounds. The best
/// must also have won against the worst itself: a pair that nobody preferred is no preference.
///
/// # Errors
/// Those of the annotator, and [`Error::WrongCount`].
pub fn extremes(
    annotator: &mut (impl Annotator + ?Sized),
    contests: &[Contest],
) -> Result<Vec<Result<Extremes, Undecided>>, Error> {
    let comparisons: Vec<Comparison> = contests.iter().flat_map(Contest::comparisons).collect();
    let mut judgements = compare_distinct(annotator, &comparisons)?.into_iter();
    let decide = |contest: &Contest| {
        let asked = pairs(contest.responses.len());
        let verdicts: Vec<_> = asked.zip(judgements.by_ref()).collect();
        decide(contest.responses.len(), &verdicts)
    };
    Ok(contests.iter().map(decide).collect())
}

impl Contest {
    /// Every two responses, the earlier one shown first.
    fn comparisons(&self) -> impl Iterator<Item = Comparison> + '_ {
        pairs(self.responses.len()).map(|(first, second)| Comparison {
            prompt: self.prompt.clone(),
            first: self.responses[first].clone(),
            second: self.responses[second].clone(),
        })
    }
}

/// Every two places of `count`.
fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |second| (0..second).map(move |first| (first, second)))
}

type Judged = ((usize, usize), Judgement);

fn decide(count: usize, judged: &[Judged]) -> Result<Extremes, Undecided> {
    let net = net_wins(count, judged);
    // Of several maxima `max_by_key` takes the last, and the first of them is wanted.
    let best = (0..count).rev().max_by_key(|&place| net[place]).ok_or(Undecided::Alone)?;
    let worst = (0..count).min_by_key(|&place| net[place]).ok_or(Undecided::Alone)?;
    if net[best] == net[worst] {
        return Err(why_level(judged));
    }
    let (shown, direct) = judged.iter().find(|(shown, _)| is_about(*shown, best, worst)).ok_or(Undecided::Alone)?;
    let direct = if shown.0 == best { direct.clone() } else { direct.clone().swap() };
    match direct.verdict {
        Verdict::First => Ok(Extremes { best, worst, scores: direct.scores }),
        Verdict::Second => Err(Undecided::Contradicted),
        Verdict::Tie => Err(Undecided::Tie),
        Verdict::Abstain(why) => Err(Undecided::Abstained(why)),
    }
}

fn is_about(shown: (usize, usize), one: usize, other: usize) -> bool {
    shown == (one, other) || shown == (other, one)
}

/// Wins minus losses of each response; ties and abstentions are neither.
fn net_wins(count: usize, judged: &[Judged]) -> Vec<i64> {
    let mut net = vec![0; count];
    for ((first, second), judgement) in judged {
        let (winner, loser) = match judgement.verdict {
            Verdict::First => (*first, *second),
            Verdict::Second => (*second, *first),
            Verdict::Tie | Verdict::Abstain(_) => continue,
        };
        net[winner] += 1;
        net[loser] -= 1;
    }
    net
}

/// Why nobody won more often than anybody else.
fn why_level(judged: &[Judged]) -> Undecided {
    let abstained = judged.iter().find_map(|(_, judgement)| match &judgement.verdict {
        Verdict::Abstain(why) => Some(why.clone()),
        _ => None,
    });
    match abstained {
        _ if judged.is_empty() => Undecided::Alone,
        _ if judged.iter().any(|(_, judgement)| judgement.verdict.is_preference()) => Undecided::Contradicted,
        Some(why) => Undecided::Abstained(why),
        None => Undecided::Tie,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Item, Scored, scorer_from};

    /// The annotator whose score is the number that a response is; NaN abstains.
    fn by_number() -> impl Annotator {
        let parse = |item: &Item| item.response.parse().unwrap_or(f64::NAN);
        Scored(scorer_from("number", move |items: &[Item]| Ok(items.iter().map(parse).collect())))
    }

    fn contest(responses: &[&str]) -> Contest {
        Contest { prompt: "p".into(), responses: responses.iter().map(|text| (*text).to_owned()).collect() }
    }

    fn of(responses: &[&str]) -> Result<Extremes, Undecided> {
        extremes(&mut by_number(), &[contest(responses)]).unwrap().remove(0)
    }

    /// An annotator with a list of who beats whom; everything else ties.
    struct Listed(&'static [(&'static str, &'static str)]);

    impl Annotator for Listed {
        fn name(&self) -> String {
            "listed".into()
        }

        fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
            let verdict = |c: &Comparison| match (&*c.first, &*c.second) {
                (first, second) if self.0.contains(&(first, second)) => Verdict::First,
                (first, second) if self.0.contains(&(second, first)) => Verdict::Second,
                _ => Verdict::Tie,
            };
            Ok(batch.iter().map(|c| Judgement::of(verdict(c))).collect())
        }
    }

    fn listed(beats: &'static [(&'static str, &'static str)], responses: &[&str]) -> Result<Extremes, Undecided> {
        extremes(&mut Listed(beats), &[contest(responses)]).unwrap().remove(0)
    }

    proptest! {
        #[test]
        fn the_best_has_the_highest_score_and_the_worst_the_lowest(numbers in prop::collection::vec(0u8..9, 2..7)) {
            let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (low, high) = (numbers.iter().min().unwrap(), numbers.iter().max().unwrap());
            match of(&texts) {
                Ok(Extremes { best, worst, scores }) => {
                    prop_assert!(low < high);
                    prop_assert_eq!((&numbers[best], &numbers[worst]), (high, low));
                    prop_assert_eq!(scores, Some([f64::from(*high), f64::from(*low)]));
                    prop_assert_eq!(best, numbers.iter().position(|number| number == high).unwrap());
                }
                Err(why) => prop_assert_eq!((why, low), (Undecided::Tie, high)),
            }
        }
    }

    #[test]
    fn a_response_without_a_score_is_neither_best_nor_worst() {
        let found = of(&["none", "1", "3", "2"]).unwrap();
        assert_eq!((found.best, found.worst, found.scores), (2, 1, Some([3.0, 1.0])));
        assert_eq!(of(&["none", "1"]), Err(Undecided::Abstained(Abstention::NotANumber)));
    }

    #[test]
    fn verdicts_in_a_circle_decide_nothing() {
        let circle = [("a", "b"), ("b", "c"), ("c", "a")].as_slice();
        assert_eq!(listed(circle, &["a", "b", "c"]), Err(Undecided::Contradicted));
    }

    #[test]
    fn a_pair_that_nobody_preferred_is_no_preference() {
        // `a` wins most and `d` loses most, but between these two it is a tie, or `d` that wins.
        const TIE: [(&str, &str); 4] = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")];
        assert_eq!(listed(&TIE, &["a", "b", "c", "d"]), Err(Undecided::Tie));
        const LOST: [(&str, &str); 9] = [
            ("d", "a"),
            ("a", "b"),
            ("a", "c"),
            ("a", "e"),
            ("b", "d"),
            ("c", "d"),
            ("e", "d"),
            ("b", "c"),
            ("c", "e"),
        ];
        assert_eq!(listed(&LOST, &["a", "b", "c", "d", "e"]), Err(Undecided::Contradicted));
    }

    #[test]
    fn fewer_than_two_responses_decide_nothing() {
        assert_eq!(of(&[]), Err(Undecided::Alone));
        assert_eq!(of(&["1"]), Err(Undecided::Alone));
        assert_eq!(of(&["1", "1"]), Err(Undecided::Tie));
    }

    #[test]
    fn each_contest_gets_its_own_verdicts() {
        let batch = [contest(&["1", "2"]), contest(&["7"]), contest(&["3", "1", "2"])];
        let found = extremes(&mut by_number(), &batch).unwrap();
        let places: Vec<_> = found.into_iter().map(|one| one.map(|e| (e.best, e.worst))).collect();
        assert_eq!(places, [Ok((1, 0)), Err(Undecided::Alone), Ok((0, 1))]);
    }
}
