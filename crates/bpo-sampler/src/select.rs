//! Which two of a prompt's candidates become a pair: pure functions of member rewards, scores and keyed draws.
//!
//! The ensemble rules are those of the code released with BPO (Xu et al. 2024, arXiv:2406.12168), tie by tie.
use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::IntoDeserializer};

use crate::{
    Error, MemberRanks, StreamKey,
    members::{combinations, rising},
};

/// What is known of a prompt's candidates when two of them are to be picked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Candidates<'a> {
    /// How many there are.
    pub count: usize,
    /// The members' view, where [`PairSelection::needs_members`]. It may cover fewer than `count`: the
    /// authors leave an odd last candidate unscored, and only a random draw of `ucb_lcb` can pick it.
    pub members: Option<&'a MemberRanks>,
    /// The annotator's scores, where [`PairSelection::needs_scores`]; NaN where there is none.
    pub scores: Option<&'a [f64]>,
}

/// The other side of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Second {
    /// A candidate, by index.
    Candidate(usize),
    /// The prompt's reference text.
    Reference,
}

/// Two responses to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pick {
    /// A candidate, by index. Under `best_*` it is the preferred one.
    pub first: usize,
    /// What it is compared with.
    pub second: Second,
}

impl Pick {
    fn of(first: usize, second: usize) -> Self {
        Self { first, second: Second::Candidate(second) }
    }

    /// Whether there are two responses to compare. Only `ucb_mean_ucb` over two candidates picks one twice.
    pub fn is_pair(&self) -> bool {
        self.second != Second::Candidate(self.first)
    }
}

/// Which two of a prompt's candidates are compared. In recipes: the variant's name in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairSelection {
    /// The first two. Candidates are drawn independently, so these are two at random (the authors' `rand_rand`).
    #[default]
    FirstTwo,
    /// The annotator's best and worst.
    BestWorst,
    /// The annotator's best and any that it scores lower, at random.
    BestRandom,
    /// Highest and second-highest UCB.
    UcbSecUcb,
    /// Highest and median UCB (index ⌊n/2⌋ of the rising order).
    UcbMeanUcb,
    /// Highest UCB and highest LCB; where that is one candidate, any other at random.
    UcbLcb,
    /// Highest UCB and any other at random.
    UcbRand,
    /// Highest UCB and the reference text.
    UcbRef,
    /// At random one of the pairs that annotator and ensemble order differently; without one, any other pair.
    UpperBound,
    /// At random one of the pairs that annotator and ensemble order alike; without one, any other pair.
    LowerBound,
}

impl PairSelection {
    /// Whether the rule reads [`Candidates::members`].
    pub fn needs_members(self) -> bool {
        !matches!(self, Self::FirstTwo | Self::BestWorst | Self::BestRandom)
    }

    /// Whether the rule reads [`Candidates::scores`].
    pub fn needs_scores(self) -> bool {
        matches!(self, Self::BestWorst | Self::BestRandom | Self::UpperBound | Self::LowerBound)
    }

    /// The pair, or `None` when there are fewer than two candidates, when all scores of `best_*` tie, or when
    /// what the rule needs is missing. `below(n)` draws uniformly from `0..n`, see [`keyed_below`]; it is
    /// called at most once.
    pub fn select(self, candidates: &Candidates<'_>, mut below: impl FnMut(usize) -> usize) -> Option<Pick> {
        let Candidates { count, members, scores } = *candidates;
        match self {
            _ if count < 2 => None,
            Self::FirstTwo => Some(Pick::of(0, 1)),
            Self::BestWorst => best_worst(scores?).map(|(best, worst)| Pick::of(best, worst)),
            Self::BestRandom => best_random(scores?, below),
            Self::UpperBound => one_of(members?.disputed(scores?), members?, below),
            Self::LowerBound => one_of(members?.agreed(scores?), members?, below),
            _ => self.by_confidence(count, members?, &mut below),
        }
    }

    /// The rules whose first is the candidate of the highest UCB.
    fn by_confidence(self, count: usize, members: &MemberRanks, below: &mut dyn FnMut(usize) -> usize) -> Option<Pick> {
        let order = rising(members.ucb());
        let (&first, rest) = order.split_last()?;
        let second = match self {
            Self::UcbRef => return Some(Pick { first, second: Second::Reference }),
            Self::UcbSecUcb => *rest.last()?,
            Self::UcbMeanUcb => order[order.len() / 2],
            Self::UcbRand => drawn(rest, below)?,
            _ => match *rising(members.lcb()).last()? {
                same if same == first => drawn(&(0..count).filter(|&other| other != first).collect::<Vec<_>>(), below)?,
                other => other,
            },
        };
        Some(Pick::of(first, second))
    }
}

impl fmt::Display for PairSelection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(out)
    }
}

impl FromStr for PairSelection {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let unknown = |error: serde::de::value::Error| Error::UnknownPairSelection(error.to_string());
        Self::deserialize(name.into_deserializer()).map_err(unknown)
    }
}

/// The best and the worst of scores, the first among equals; `None` when all finite ones are equal. Scores that
/// are not finite do not take part.
pub fn best_worst(scores: &[f64]) -> Option<(usize, usize)> {
    let finite = || scores.iter().copied().enumerate().filter(|(_, score)| score.is_finite());
    let best = finite().reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    let worst = finite().reduce(|worst, next| if next.1 < worst.1 { next } else { worst })?;
    (best.1 > worst.1).then_some((best.0, worst.0))
}

fn best_random(scores: &[f64], mut below: impl FnMut(usize) -> usize) -> Option<Pick> {
    let (best, _) = best_worst(scores)?;
    let lower: Vec<usize> =
        (0..scores.len()).filter(|&other| scores[other].is_finite() && scores[other] < scores[best]).collect();
    drawn(&lower, &mut below).map(|other| Pick::of(best, other))
}

/// One of `pairs`, or of all pairs when there is none of that kind.
fn one_of(pairs: Vec<(usize, usize)>, members: &MemberRanks, mut below: impl FnMut(usize) -> usize) -> Option<Pick> {
    let pool = if pairs.is_empty() { combinations(members.mean().len()).collect() } else { pairs };
    drawn(&pool, &mut below).map(|(first, second)| Pick::of(first, second))
}

fn drawn<T: Copy>(pool: &[T], below: &mut dyn FnMut(usize) -> usize) -> Option<T> {
    if pool.is_empty() { None } else { pool.get(below(pool.len())).copied() }
}

/// Uniform draws from `0..n` for [`PairSelection::select`], keyed like a completion's tokens. Slots are counted
/// down from the highest, so that no draw shares a stream with the completion sampled in `key.slot`.
pub fn keyed_below(key: StreamKey) -> impl FnMut(usize) -> usize {
    let mut stream = StreamKey { slot: u64::MAX - key.slot, ..key }.stream();
    move |n| (stream.uniform() * n as f64) as usize
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const ALL: [PairSelection; 10] = [
        PairSelection::FirstTwo,
        PairSelection::BestWorst,
        PairSelection::BestRandom,
        PairSelection::UcbSecUcb,
        PairSelection::UcbMeanUcb,
        PairSelection::UcbLcb,
        PairSelection::UcbRand,
        PairSelection::UcbRef,
        PairSelection::UpperBound,
        PairSelection::LowerBound,
    ];

    /// Rewards `[members][candidates]` and scores `[candidates]`, with ties.
    pub(crate) fn any_rewards() -> impl Strategy<Value = (Vec<Vec<f64>>, Vec<f64>)> {
        (1usize..6, 0usize..7).prop_flat_map(|(members, candidates)| {
            let row = || vec((-3i8..4).prop_map(f64::from), candidates);
            (vec(row(), members), row())
        })
    }

    fn pick(rule: PairSelection, members: &MemberRanks, scores: &[f64], draw: usize) -> Option<Pick> {
        let candidates = Candidates { count: scores.len(), members: Some(members), scores: Some(scores) };
        rule.select(&candidates, |n| draw % n)
    }

    proptest! {
        #[test]
        fn a_pick_is_two_different_candidates_whenever_there_are_two(
            (rewards, scores) in any_rewards(), gamma in -2.0f64..2.0, draw: usize,
        ) {
            let members = MemberRanks::new(&rewards, gamma).unwrap();
            for rule in ALL {
                let picked = pick(rule, &members, &scores, draw);
                let all_tie = best_worst(&scores).is_none();
                let by_scores = matches!(rule, PairSelection::BestWorst | PairSelection::BestRandom);
                prop_assert_eq!(picked.is_some(), scores.len() > 1 && !(by_scores && all_tie));
                let Some(Pick { first, second }) = picked else { continue };
                prop_assert!(first < scores.len());
                if let Second::Candidate(second) = second {
                    prop_assert!(second < scores.len());
                    prop_assert!(second != first || (rule == PairSelection::UcbMeanUcb && scores.len() == 2));
                }
                if by_scores {
                    prop_assert!(matches!(second, Second::Candidate(second) if scores[first] > scores[second]));
                }
            }
        }

        #[test]
        fn renamed_candidates_are_picked_under_their_new_names(
            order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
            rewards in vec(Just((0..6).map(f64::from).collect::<Vec<f64>>()).prop_shuffle(), 3),
        ) {
            let renamed: Vec<Vec<f64>> =
                rewards.iter().map(|row| order.iter().map(|&candidate| row[candidate]).collect()).collect();
            // An irrational weight keeps different ranks from tying.
            let [members, renamed] = [rewards, renamed].map(|r| MemberRanks::new(&r, 0.577_215_664_901_532_9).unwrap());
            let mut ucbs = members.ucb().to_vec();
            ucbs.sort_by(f64::total_cmp);
            prop_assume!(ucbs.windows(2).all(|pair| pair[1] - pair[0] > 1e-9));
            let picked = |members| pick(PairSelection::UcbSecUcb, members, &[0.0; 6], 0).unwrap();
            let [before, after] = [picked(&members), picked(&renamed)];
            prop_assert_eq!(order[after.first], before.first);
        }

        #[test]
        fn keyed_draws_stay_below(n in 1usize..1000, seed: u64, slot: u64) {
            let key = StreamKey { seed, step: 1, prompt: 2, slot };
            prop_assert!(keyed_below(key)(n) < n);
            prop_assert_eq!(keyed_below(key)(n), keyed_below(key)(n));
        }
    }

    #[test]
    fn keyed_draws_are_uniform_and_never_the_completions_own() {
        let key = |prompt| StreamKey { seed: 1, step: 0, prompt, slot: 0 };
        let mut counts = [0; 3];
        for prompt in 0..3000 {
            counts[keyed_below(key(prompt))(3)] += 1;
        }
        // Binomial(3000, 1/3): standard deviation 26.
        assert!(counts.iter().all(|&count: &i32| (count - 1000).abs() < 110), "{counts:?}");
        assert_ne!(keyed_below(key(0))(1 << 40), (key(0).stream().uniform() * (1u64 << 40) as f64) as usize);
    }

    #[test]
    fn names_are_snake_case_and_read_back() {
        for rule in ALL {
            assert_eq!(rule.to_string().parse::<PairSelection>().unwrap(), rule);
        }
        assert_eq!(PairSelection::UcbSecUcb.to_string(), "ucb_sec_ucb");
        let message = "best".parse::<PairSelection>().unwrap_err().to_string();
        assert!(message.contains("`best`") && message.contains("`best_worst`"), "{message}");
    }

    #[test]
    fn what_a_rule_needs_and_lacks_gives_no_pair() {
        let members = MemberRanks::new(&[vec![0.0, 1.0]], 1.0).unwrap();
        for rule in ALL {
            let unscored = Candidates { count: 2, members: Some(&members), scores: None };
            assert_eq!(rule.select(&unscored, |_| 0).is_some(), !rule.needs_scores(), "{rule}");
            let unranked = Candidates { count: 2, members: None, scores: Some(&[0.0, 1.0]) };
            assert_eq!(rule.select(&unranked, |_| 0).is_some(), !rule.needs_members(), "{rule}");
        }
    }

    #[test]
    fn an_unscored_last_candidate_is_only_drawn_where_bounds_collide() {
        let members = MemberRanks::new(&[vec![0.0, 1.0]], 0.0).unwrap();
        let candidates = Candidates { count: 3, members: Some(&members), scores: None };
        assert_eq!(PairSelection::UcbLcb.select(&candidates, |n| n - 1), Some(Pick::of(1, 2)));
        assert_eq!(PairSelection::UcbRand.select(&candidates, |n| n - 1), Some(Pick::of(1, 0)));
    }

    #[test]
    fn scores_that_are_not_finite_do_not_take_part() {
        assert_eq!(best_worst(&[f64::NAN, 1.0, f64::INFINITY, 0.0]), Some((1, 3)));
        assert_eq!(best_worst(&[f64::NAN, 1.0]), None);
        assert_eq!(best_worst(&[]), None);
    }
}
