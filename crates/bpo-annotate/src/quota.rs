//! When an annotator that abstains is no annotator any more.

use std::collections::VecDeque;

/// Watches how often there is no verdict: more than a tenth of the last 200 questions, of at least 20, is too often.
#[derive(Debug, Clone, Default)]
pub struct AbstainQuota(VecDeque<bool>);

impl AbstainQuota {
    /// Questions looked back on.
    pub const WINDOW: usize = 200;
    /// Questions before anything is concluded.
    pub const ENOUGH: usize = 20;
    /// Share of them that may go without a verdict.
    pub const SHARE: f64 = 0.1;

    /// Counts one question.
    pub fn count(&mut self, abstained: bool) {
        self.0.push_back(abstained);
        self.0.drain(..self.0.len().saturating_sub(Self::WINDOW));
    }

    /// `(abstained, asked)` of the last questions when that is too often.
    pub fn exceeded(&self) -> Option<(usize, usize)> {
        let (asked, abstained) = (self.0.len(), self.0.iter().filter(|abstained| **abstained).count());
        (asked >= Self::ENOUGH && abstained as f64 > Self::SHARE * asked as f64).then_some((abstained, asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(answers: impl IntoIterator<Item = bool>) -> Option<(usize, usize)> {
        let mut quota = AbstainQuota::default();
        answers.into_iter().for_each(|abstained| quota.count(abstained));
        quota.exceeded()
    }

    #[test]
    fn more_than_a_tenth_of_at_least_twenty_is_too_often() {
        assert_eq!(after([true; 19]), None);
        assert_eq!(after([true; 20]), Some((20, 20)));
        assert_eq!(after((0..20).map(|at| at < 2)), None);
        assert_eq!(after((0..20).map(|at| at < 3)), Some((3, 20)));
    }

    #[test]
    fn only_the_last_two_hundred_count() {
        let answers = |old: usize, new: usize| (0..old + 200).map(move |at| at < old || at >= old + 200 - new);
        assert_eq!(after(answers(100, 20)), None);
        assert_eq!(after(answers(0, 21)), Some((21, 200)));
    }
}
