//! How an ensemble ranks the candidates of a prompt, as the code released with BPO computes it
//! (Xu et al. 2024, arXiv:2406.12168).
use std::cmp::Ordering;

use crate::Error;

/// How the ensemble's members rank the candidates of one prompt, and how far they disagree.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberRanks {
    ranks: Vec<Vec<usize>>,
    mean: Vec<f64>,
    std: Vec<f64>,
    ucb: Vec<f64>,
    lcb: Vec<f64>,
}

impl MemberRanks {
    /// Ranks from implicit rewards, `[members][candidates]`; `gamma` weighs the members' disagreement.
    ///
    /// Only the order of a member's rewards counts. A reward that is NaN ranks lowest.
    ///
    /// # Errors
    /// [`Error::RaggedRewards`] when a member has more or fewer rewards than the first.
    pub fn new(rewards: &[Vec<f64>], gamma: f64) -> Result<Self, Error> {
        let candidates = rewards.first().map_or(0, Vec::len);
        if let Some(member) = rewards.iter().position(|rewards| rewards.len() != candidates) {
            return Err(Error::RaggedRewards { member, rewards: rewards[member].len(), candidates });
        }
        let ranks: Vec<Vec<usize>> = rewards.iter().map(|rewards| ranks(rewards)).collect();
        let of = |candidate: usize| ranks.iter().map(|ranks| ranks[candidate] as f64).collect::<Vec<f64>>();
        let (mean, std): (Vec<f64>, Vec<f64>) = (0..candidates).map(|candidate| moments(&of(candidate))).unzip();
        let bound = |sign: f64| mean.iter().zip(&std).map(|(mean, std)| mean + sign * gamma * std).collect();
        Ok(Self { ucb: bound(1.0), lcb: bound(-1.0), ranks, mean, std })
    }

    /// `[members][candidates]`: how many of the member's rewards lie below; equal rewards share the lowest rank.
    pub fn ranks(&self) -> &[Vec<usize>] {
        &self.ranks
    }

    /// `[candidates]`, mean rank over the members.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// `[candidates]`, population standard deviation of the rank over the members.
    pub fn std(&self) -> &[f64] {
        &self.std
    }

    /// `[candidates]`, upper confidence bound: mean + gamma · std.
    pub fn ucb(&self) -> &[f64] {
        &self.ucb
    }

    /// `[candidates]`, lower confidence bound: mean − gamma · std.
    pub fn lcb(&self) -> &[f64] {
        &self.lcb
    }

    /// Pairs `(i, j)`, `i < j`, that `scores` and the mean rank order alike. Ties of either are in no such pair.
    pub fn agreed(&self, scores: &[f64]) -> Vec<(usize, usize)> {
        self.pairs(scores, |by_score, by_rank| by_score == by_rank)
    }

    /// Pairs `(i, j)`, `i < j`, that `scores` and the mean rank order differently. Ties of either are in no such pair.
    pub fn disputed(&self, scores: &[f64]) -> Vec<(usize, usize)> {
        self.pairs(scores, |by_score, by_rank| by_score == by_rank.reverse())
    }

    fn pairs(&self, scores: &[f64], wanted: impl Fn(Ordering, Ordering) -> bool) -> Vec<(usize, usize)> {
        let order = |values: &[f64], (i, j): (usize, usize)| values[i].partial_cmp(&values[j]).filter(|o| o.is_ne());
        let wanted = |&pair: &(usize, usize)| {
            order(scores, pair).zip(order(&self.mean, pair)).is_some_and(|(score, rank)| wanted(score, rank))
        };
        combinations(self.mean.len().min(scores.len())).filter(wanted).collect()
    }
}

fn ranks(rewards: &[f64]) -> Vec<usize> {
    rewards.iter().map(|reward| rewards.iter().filter(|other| *other < reward).count()).collect()
}

/// Mean and population standard deviation, rounded as numpy rounds them: picks are ties of UCBs, and a last
/// bit decides them.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: Vec<f64> = values.iter().map(|value| (value - mean) * (value - mean)).collect();
    (mean, (pairwise_sum(&squares) / n).sqrt())
}

/// The order in which numpy adds up to 128 numbers: one by one below eight, else in eight lanes.
fn pairwise_sum(values: &[f64]) -> f64 {
    let mut lanes = values.chunks_exact(8);
    if lanes.len() == 0 {
        return values.iter().sum();
    }
    let mut sums = [0.0; 8];
    for lane in &mut lanes {
        for (sum, value) in sums.iter_mut().zip(lane) {
            *sum += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    lanes.remainder().iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, value| sum + value)
}

/// Indices by rising value, the higher index later among equals.
pub(crate) fn rising(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order
}

/// Pairs `(i, j)`, `i < j`, below `count`.
pub(crate) fn combinations(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |first| (first + 1..count).map(move |second| (first, second)))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::select::tests::any_rewards;

    fn close(a: &[f64], b: &[f64]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12)
    }

    proptest! {
        #[test]
        fn only_the_order_of_a_members_rewards_counts((rewards, _) in any_rewards(), gamma in 0.0f64..2.0) {
            let stretched: Vec<Vec<f64>> =
                rewards.iter().map(|row| row.iter().map(|r| (r * 0.5).exp() * 7.0 - 40.0).collect()).collect();
            prop_assert_eq!(MemberRanks::new(&rewards, gamma).unwrap(), MemberRanks::new(&stretched, gamma).unwrap());
        }

        #[test]
        fn the_order_of_the_members_does_not_count((rewards, _) in any_rewards(), gamma in 0.0f64..2.0) {
            let mut reversed = rewards.clone();
            reversed.reverse();
            let [forth, back] = [rewards, reversed].map(|rewards| MemberRanks::new(&rewards, gamma).unwrap());
            prop_assert_eq!(forth.mean(), back.mean());
            prop_assert!(close(forth.ucb(), back.ucb()) && close(forth.lcb(), back.lcb()));
        }

        #[test]
        fn without_gamma_both_bounds_are_the_mean_rank((rewards, _) in any_rewards()) {
            let members = MemberRanks::new(&rewards, 0.0).unwrap();
            prop_assert_eq!(members.ucb(), members.mean());
            prop_assert_eq!(members.lcb(), members.mean());
        }

        #[test]
        fn members_of_one_mind_do_not_deviate(row in vec(-3.0f64..3.0, 0..6), members in 1usize..12) {
            let ranks = MemberRanks::new(&vec![row; members], 1.0).unwrap();
            prop_assert!(ranks.std().iter().all(|&std| std == 0.0));
        }

        #[test]
        fn pairs_are_agreed_disputed_or_tied((rewards, scores) in any_rewards()) {
            let members = MemberRanks::new(&rewards, 0.0).unwrap();
            let (agreed, disputed) = (members.agreed(&scores), members.disputed(&scores));
            for pair in combinations(scores.len()) {
                let tied = scores[pair.0] == scores[pair.1] || members.mean()[pair.0] == members.mean()[pair.1];
                let found = usize::from(agreed.contains(&pair)) + usize::from(disputed.contains(&pair));
                prop_assert_eq!(found, usize::from(!tied));
            }
        }
    }

    #[test]
    fn members_with_different_numbers_of_rewards_are_refused() {
        let refused = MemberRanks::new(&[vec![0.0, 1.0], vec![0.0]], 1.0);
        assert_eq!(refused, Err(Error::RaggedRewards { member: 1, rewards: 1, candidates: 2 }));
    }

    /// numpy 2.4.6; adding the squares one by one gives 1.7916128329552334.
    #[test]
    fn deviations_round_as_numpys() {
        let (_, std) = moments(&[4.0, 2.0, 5.0, 1.0, 5.0, 0.0, 5.0, 2.0, 2.0]);
        assert_eq!(std, 1.791_612_832_955_233_2);
    }
}
