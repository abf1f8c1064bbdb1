//! Order debiasing: a judge that prefers whatever it sees first must not train anything.

use serde::{Deserialize, Serialize};

use crate::cache::key;
use crate::{Annotator, Comparison, Error, Item, Judgement, Statistics, Verdict};

/// How far verdicts followed the order of showing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PositionBias {
    /// Pairs that were answered in both orders.
    pub asked: u64,
    /// Of those, pairs whose two answers contradict each other.
    pub disagreed: u64,
    /// Of the contradictions, those in which the response shown first won both times.
    pub first_preferred: u64,
}

impl PositionBias {
    /// Share of the pairs whose verdict changed with the order; `None` before the first pair.
    pub fn rate(&self) -> Option<f64> {
        (self.asked > 0).then(|| self.disagreed as f64 / self.asked as f64)
    }
}

/// Asks every comparison in both orders. Agreeing verdicts stand; contradicting ones become
/// a tie and are counted; an abstention in either order abstains.
///
/// Scores do not depend on an order, so this is pointless around [`Scored`](crate::Scored).
#[derive(Debug, Clone)]
pub struct BothOrders<A> {
    inner: A,
    bias: PositionBias,
}

impl<A> BothOrders<A> {
    /// Wraps a judge.
    pub fn new(inner: A) -> Self {
        Self { inner, bias: PositionBias::default() }
    }

    /// How far the verdicts so far followed the order of showing.
    pub fn bias(&self) -> PositionBias {
        self.bias
    }
}

impl<A: Annotator> Annotator for BothOrders<A> {
    fn name(&self) -> String {
        format!("{} in both orders", self.inner.name())
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        let swapped = batch.iter().map(Comparison::swap);
        let both: Vec<Comparison> = batch.iter().cloned().chain(swapped).collect();
        let mut forth = self.inner.compare(&both)?;
        Error::unless_counts_match(|| self.inner.name(), both.len(), forth.len())?;
        let back = forth.split_off(batch.len());
        Ok(forth.into_iter().zip(back).map(|(forth, back)| self.settle(forth, back.swap())).collect())
    }

    fn score(&mut self, items: &[Item]) -> Option<Result<Vec<f64>, Error>> {
        self.inner.score(items)
    }

    fn statistics(&self) -> Statistics {
        Statistics { both_orders: Some(self.bias), ..self.inner.statistics() }
    }
}

impl<A> BothOrders<A> {
    /// One judgement out of two; `back` is already turned round.
    fn settle(&mut self, forth: Judgement, back: Judgement) -> Judgement {
        let scores = mean(forth.scores, back.scores);
        let verdict = match (forth.verdict, back.verdict) {
            (Verdict::Abstain(why), _) | (_, Verdict::Abstain(why)) => {
                return Judgement::of(Verdict::Abstain(why));
            }
            (forth, back) => self.agree(forth, &back),
        };
        Judgement { verdict, scores }
    }

    fn agree(&mut self, forth: Verdict, back: &Verdict) -> Verdict {
        self.bias.asked += 1;
        if forth == *back {
            return forth;
        }
        self.bias.disagreed += 1;
        // `back` is turned round: a win of the response shown first reads `Second` there.
        if (&forth, back) == (&Verdict::First, &Verdict::Second) {
            self.bias.first_preferred += 1;
        }
        Verdict::Tie
    }
}

/// How often the response that was shown first won, where the order was random: half of the time without a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ShownFirst {
    /// Pairs with a preference.
    pub decided: u64,
    /// Of those, pairs in which the response shown first won.
    pub won: u64,
}

impl ShownFirst {
    /// The 95 % interval of the share (Wilson 1927, score interval); `None` before the first preference.
    pub fn interval(&self) -> Option<(f64, f64)> {
        const Z: f64 = 1.96;
        let (n, share) = (self.decided as f64, self.won as f64 / self.decided as f64);
        let middle = share + Z * Z / (2.0 * n);
        let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        (self.decided > 0).then_some(((middle - half) / scale, (middle + half) / scale))
    }
}

/// Asks every comparison in one of the two orders, which a hash of its texts decides: the same pair is always shown
/// the same way, whichever of its responses is given first, and so it is always the same question.
#[derive(Debug, Clone)]
pub struct RandomOrder<A> {
    inner: A,
    shown: ShownFirst,
}

impl<A> RandomOrder<A> {
    /// Wraps a judge.
    pub fn new(inner: A) -> Self {
        Self { inner, shown: ShownFirst::default() }
    }
}

impl<A: Annotator> Annotator for RandomOrder<A> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        let turned: Vec<bool> = batch.iter().map(is_turned).collect();
        let shown: Vec<Comparison> =
            batch.iter().zip(&turned).map(|(pair, turned)| if *turned { pair.swap() } else { pair.clone() }).collect();
        let given = self.inner.compare(&shown)?;
        Error::unless_counts_match(|| self.inner.name(), shown.len(), given.len())?;
        for judgement in given.iter().filter(|judgement| judgement.verdict.is_preference()) {
            self.shown.decided += 1;
            self.shown.won += u64::from(judgement.verdict == Verdict::First);
        }
        let back = |(judgement, turned): (Judgement, bool)| if turned { judgement.swap() } else { judgement };
        Ok(given.into_iter().zip(turned).map(back).collect())
    }

    fn score(&mut self, items: &[Item]) -> Option<Result<Vec<f64>, Error>> {
        self.inner.score(items)
    }

    fn statistics(&self) -> Statistics {
        Statistics { shown_first: Some(self.shown), ..self.inner.statistics() }
    }
}

/// Whether a pair is shown the other way round.
fn is_turned(pair: &Comparison) -> bool {
    let (low, high) = (pair.first.as_str().min(&pair.second), pair.first.as_str().max(&pair.second));
    let low_first = key("order", &[&pair.prompt, low, high]).as_bytes()[0] & 1 == 0;
    low_first != (pair.first == low)
}

fn mean(one: Option<[f64; 2]>, other: Option<[f64; 2]>) -> Option<[f64; 2]> {
    let (one, other) = (one?, other?);
    Some([0, 1].map(|at| one[at] / 2.0 + other[at] / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Abstention, Length, Scored};

    /// Answers by a rule on the two texts, in the order in which they are shown.
    struct Rule(fn(&str, &str) -> Verdict);

    impl Annotator for Rule {
        fn name(&self) -> String {
            "rule".into()
        }

        fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
            let judged = |c: &Comparison| Judgement::of(self.0(&c.first, &c.second));
            Ok(batch.iter().map(judged).collect())
        }
    }

    fn pairs() -> Vec<Comparison> {
        [("a", "b"), ("b", "a"), ("c", "d")]
            .map(|(first, second)| Comparison { prompt: String::new(), first: first.into(), second: second.into() })
            .to_vec()
    }

    fn verdicts(rule: fn(&str, &str) -> Verdict) -> (Vec<Verdict>, PositionBias) {
        let mut annotator = BothOrders::new(Rule(rule));
        let given = annotator.compare(&pairs()).unwrap();
        let verdicts = given.into_iter().map(|judgement| judgement.verdict);
        (verdicts.collect(), annotator.bias())
    }

    #[test]
    fn agreeing_verdicts_stand() {
        let (given, bias) = verdicts(|first, second| match first < second {
            true => Verdict::First,
            false => Verdict::Second,
        });
        assert_eq!(given, [Verdict::First, Verdict::Second, Verdict::First]);
        assert_eq!((bias.asked, bias.disagreed), (3, 0));
        assert_eq!(bias.rate(), Some(0.0));
    }

    #[test]
    fn contradicting_verdicts_become_a_tie_and_are_counted() {
        let (given, bias) = verdicts(|_, _| Verdict::First);
        assert!(given.iter().all(|verdict| *verdict == Verdict::Tie));
        assert_eq!((bias.asked, bias.disagreed, bias.first_preferred), (3, 3, 3));
        let (_, bias) = verdicts(|_, _| Verdict::Second);
        assert_eq!((bias.asked, bias.disagreed, bias.first_preferred), (3, 3, 0));
    }

    #[test]
    fn an_abstention_in_either_order_abstains() {
        let (given, bias) = verdicts(|first, _| match first {
            "b" => Verdict::Abstain(Abstention::TimedOut),
            _ => Verdict::First,
        });
        let silent = Verdict::Abstain(Abstention::TimedOut);
        assert_eq!(given[..2], [silent.clone(), silent]);
        assert_eq!(bias.asked, 1);
    }

    #[test]
    fn scores_do_not_depend_on_an_order() {
        let mut plain = Scored(Length::default());
        let mut both = BothOrders::new(Scored(Length::default()));
        assert_eq!(plain.compare(&pairs()).unwrap(), both.compare(&pairs()).unwrap());
        assert_eq!(both.statistics().both_orders.unwrap().disagreed, 0);
    }

    #[test]
    fn a_random_order_hides_nothing_and_shows_the_bias() {
        let mut pairs: Vec<Comparison> = Vec::new();
        for at in 0..400 {
            pairs.push(Comparison { prompt: format!("{at}"), first: "a".into(), second: "b".into() });
        }
        let swapped: Vec<Comparison> = pairs.iter().map(Comparison::swap).collect();
        let honest: fn(&str, &str) -> Verdict = |first, _| if first == "a" { Verdict::First } else { Verdict::Second };
        let mut judge = RandomOrder::new(Rule(honest));
        assert!(judge.compare(&pairs).unwrap().iter().all(|judgement| judgement.verdict == Verdict::First));
        assert!(judge.compare(&swapped).unwrap().iter().all(|judgement| judgement.verdict == Verdict::Second));
        let (low, high) = judge.statistics().shown_first.unwrap().interval().unwrap();
        assert!(low < 0.5 && high > 0.5, "{low} {high}");
        let mut biased = RandomOrder::new(Rule(|_, _| Verdict::First));
        let given = biased.compare(&pairs).unwrap();
        let firsts = given.iter().filter(|judgement| judgement.verdict == Verdict::First).count();
        assert!((150..250).contains(&firsts), "{firsts}");
        assert_eq!(biased.statistics().shown_first, Some(ShownFirst { decided: 400, won: 400 }));
        assert_eq!(ShownFirst::default().interval(), None);
    }

    #[test]
    fn the_interval_of_a_share_is_wilsons() {
        let (low, high) = ShownFirst { decided: 10, won: 8 }.interval().unwrap();
        assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4, "{low} {high}");
    }
}
