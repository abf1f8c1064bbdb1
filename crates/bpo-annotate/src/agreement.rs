//! How far judges agree with each other.

use serde::{Deserialize, Serialize};

use crate::Verdict;

/// The verdicts that count: first, second, tie.
const KINDS: usize = 3;

/// Agreement of a panel's members over the pairs that they judged.
///
/// Krippendorff's α (Krippendorff 2004, *Content Analysis*, ch. 11) for nominal data takes any number of judges and
/// missing answers; with two judges who answer everything it is Scott's π but for a correction for few pairs. 1 is
/// full agreement, 0 what chance would give, below 0 systematic disagreement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Pairs that at least two members answered.
    pub pairs: u64,
    /// Of every two members, `[i, j]` with `i < j`: how many pairs both answered, and on how many they agreed.
    pub between: Vec<Between>,
    /// Coincidences of the verdicts first, second, tie: α is made of these.
    coincidences: [[f64; KINDS]; KINDS],
}

/// Two members of a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Between {
    /// Their places in the panel.
    pub members: [usize; 2],
    /// Pairs that both answered.
    pub both: u64,
    /// Of those, pairs on which they agreed.
    pub agreed: u64,
}

impl Agreement {
    /// Of a panel of `members`, before the first pair.
    pub(crate) fn of(members: usize) -> Self {
        let places = (0..members).flat_map(|j| (0..j).map(move |i| [i, j]));
        let between = places.map(|members| Between { members, both: 0, agreed: 0 }).collect();
        Self { between, ..Self::default() }
    }

    /// Counts one pair; `verdicts` are those of the members.
    pub(crate) fn count(&mut self, verdicts: &[&Verdict]) {
        let kinds: Vec<Option<usize>> = verdicts.iter().map(|verdict| kind(verdict)).collect();
        let answered = kinds.iter().flatten().count();
        if answered < 2 {
            return;
        }
        self.pairs += 1;
        for between in &mut self.between {
            let [i, j] = between.members;
            if let (Some(Some(one)), Some(Some(other))) = (kinds.get(i), kinds.get(j)) {
                between.both += 1;
                between.agreed += u64::from(one == other);
                let weight = 1.0 / (answered - 1) as f64;
                self.coincidences[*one][*other] += weight;
                self.coincidences[*other][*one] += weight;
            }
        }
    }

    /// Krippendorff's α; `None` before the first pair, and where all verdicts are the same: then chance agrees too.
    pub fn alpha(&self) -> Option<f64> {
        let totals = self.coincidences.map(|row| row.iter().sum::<f64>());
        let count: f64 = totals.iter().sum();
        let matching: f64 = (0..KINDS).map(|kind| self.coincidences[kind][kind]).sum();
        let by_chance: f64 = totals.iter().map(|total| total * (total - 1.0)).sum::<f64>() / (count - 1.0);
        (count > 1.0 && count - by_chance > 1e-9).then(|| 1.0 - (count - matching) / (count - by_chance))
    }

    /// Share of the pairs of answers that agree; `None` before the first.
    pub fn rate(&self) -> Option<f64> {
        let (both, agreed) = self.between.iter().fold((0, 0), |(b, a), two| (b + two.both, a + two.agreed));
        (both > 0).then(|| agreed as f64 / both as f64)
    }

    /// The same in words.
    pub(crate) fn line(&self) -> String {
        let alpha = self.alpha().map_or("not defined".to_owned(), |alpha| format!("{alpha:.3}"));
        let two = |between: &Between| {
            let Between { members: [i, j], both, agreed } = between;
            format!("{}-{} {agreed}/{both}", i + 1, j + 1)
        };
        let each: Vec<String> = self.between.iter().map(two).collect();
        let rate = self.rate().map_or("-".to_owned(), |rate| format!("{:.0} %", 100.0 * rate));
        format!(
            "panel: {rate} of the answers agree over {} pairs ({}), Krippendorff's alpha {alpha}",
            self.pairs,
            each.join(", ")
        )
    }
}

fn kind(verdict: &Verdict) -> Option<usize> {
    match verdict {
        Verdict::First => Some(0),
        Verdict::Second => Some(1),
        Verdict::Tie => Some(2),
        Verdict::Abstain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Abstention;

    fn of(columns: &[&[Verdict]]) -> Agreement {
        let mut agreement = Agreement::of(columns[0].len());
        columns.iter().for_each(|verdicts| agreement.count(&verdicts.iter().collect::<Vec<_>>()));
        agreement
    }

    #[test]
    fn alpha_is_krippendorffs() {
        use Verdict::{First as A, Second as B, Tie as C};
        // Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", B (nominal data, two observers), with
        // five categories there and the two that our three can hold here: reproduced with the `krippendorff` package.
        let none = || Verdict::Abstain(Abstention::TimedOut);
        let agreement = of(&[&[A, A], &[B, B], &[C, B], &[C, C], &[B, B], &[A, none()], &[B, B], &[none(), none()]]);
        // 6 pairs of answers: o_AA 2, o_BB 6, o_CC 2, o_BC = o_CB = 1; n_A 2, n_B 7, n_C 3, n 12.
        // α = 1 − 11·2 / (144 − 4 − 49 − 9) = 1 − 22/82
        assert!((agreement.alpha().unwrap() - (1.0 - 22.0 / 82.0)).abs() < 1e-12, "{:?}", agreement.alpha());
        assert_eq!((agreement.pairs, agreement.rate()), (6, Some(5.0 / 6.0)));
    }

    #[test]
    fn three_judges_with_a_gap() {
        use Verdict::{First as A, Second as B};
        let none = || Verdict::Abstain(Abstention::TimedOut);
        let agreement = of(&[&[A, A, B], &[B, B, none()], &[A, A, A]]);
        // Values 3 + 2 + 3 = 8. o_AB = o_BA = 2/2 · 1 = 1 each (A–B twice over 3 − 1). n_A 5, n_B 3.
        // α = 1 − 7·2 / (64 − 25 − 9) = 1 − 14/30
        assert!((agreement.alpha().unwrap() - (1.0 - 14.0 / 30.0)).abs() < 1e-12, "{:?}", agreement.alpha());
        assert_eq!(agreement.between.iter().map(|two| two.both).collect::<Vec<_>>(), [3, 2, 2]);
    }

    #[test]
    fn where_chance_agrees_too_alpha_is_not_defined() {
        let agreement = of(&[&[Verdict::First, Verdict::First]]);
        assert_eq!((agreement.alpha(), agreement.rate()), (None, Some(1.0)));
        assert_eq!(Agreement::of(2).alpha(), None);
        assert!(Agreement::of(2).line().contains("not defined"));
    }

    proptest! {
        #[test]
        fn judges_who_always_agree_have_alpha_one(kinds in proptest::collection::vec(0usize..3, 2..20)) {
            let verdicts = [Verdict::First, Verdict::Second, Verdict::Tie];
            let columns: Vec<[Verdict; 3]> = kinds.iter().map(|&kind| [0; 3].map(|_| verdicts[kind].clone())).collect();
            let agreement = of(&columns.iter().map(|column| &column[..]).collect::<Vec<_>>());
            let differ = kinds.iter().any(|kind| kind != &kinds[0]);
            prop_assert_eq!(agreement.alpha().map(|alpha| (alpha * 1e9).round() / 1e9), differ.then_some(1.0));
        }
    }
}
