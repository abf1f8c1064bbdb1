//! A model that reads both responses at once.

use crate::{Abstention, Annotator, Comparison, Error, Judgement, PositionBias, Statistics, Verdict};

/// Anything that gives an ordered pair of responses a number: above 0 the one shown first is better.
pub trait PairScorer {
    /// A name for logs and the run record.
    fn name(&self) -> String;

    /// One number for each comparison, in the order in which they are shown; NaN where there is none.
    ///
    /// # Errors
    /// A message, when no further pair can be scored.
    fn logits(&mut self, pairs: &[Comparison]) -> Result<Vec<f64>, String>;
}

/// Ranks two responses by a [`PairScorer`] that is asked in both orders: the mean of the two answers decides, so that what
/// the model gives to the first place cancels out (Jiang et al. 2023, arXiv:2306.02561).
#[derive(Debug, Clone)]
pub struct PairRanker<S> {
    scorer: S,
    bias: PositionBias,
}

impl<S> PairRanker<S> {
    /// Wraps a scorer.
    pub fn new(scorer: S) -> Self {
        Self { scorer, bias: PositionBias::default() }
    }
}

impl<S: PairScorer + ?Sized> PairScorer for Box<S> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn logits(&mut self, pairs: &[Comparison]) -> Result<Vec<f64>, String> {
        (**self).logits(pairs)
    }
}

impl<S: PairScorer> Annotator for PairRanker<S> {
    fn name(&self) -> String {
        format!("pair ranker {}", self.scorer.name())
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        let both: Vec<Comparison> = batch.iter().cloned().chain(batch.iter().map(Comparison::swap)).collect();
        let name = self.scorer.name();
        let logits = self.scorer.logits(&both).map_err(|reason| Error::Scorer { name, reason })?;
        Error::unless_counts_match(|| self.scorer.name(), both.len(), logits.len())?;
        let (forth, back) = logits.split_at(batch.len());
        Ok(forth.iter().zip(back).map(|(forth, back)| self.settle(*forth, *back)).collect())
    }

    fn statistics(&self) -> Statistics {
        Statistics { both_orders: Some(self.bias), ..Statistics::default() }
    }
}

impl<S> PairRanker<S> {
    fn settle(&mut self, forth: f64, back: f64) -> Judgement {
        let mean = (forth - back) / 2.0;
        if !mean.is_finite() {
            return Judgement::of(Verdict::Abstain(Abstention::NotANumber));
        }
        self.bias.asked += 1;
        // The one shown first, or the one shown second, in both orders.
        if forth * back > 0.0 {
            self.bias.disagreed += 1;
            self.bias.first_preferred += u64::from(forth > 0.0);
        }
        Judgement::of(Verdict::of_scores(mean, 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares lengths, and likes what it sees first.
    struct Longer(f64);

    impl PairScorer for Longer {
        fn name(&self) -> String {
            "longer".into()
        }

        fn logits(&mut self, pairs: &[Comparison]) -> Result<Vec<f64>, String> {
            Ok(pairs.iter().map(|pair| pair.first.len() as f64 - pair.second.len() as f64 + self.0).collect())
        }
    }

    fn pair(first: &str, second: &str) -> Comparison {
        Comparison { prompt: "p".into(), first: first.into(), second: second.into() }
    }

    #[test]
    fn what_the_place_is_worth_cancels_out_and_is_told() {
        let mut ranker = PairRanker::new(Longer(2.0));
        let given = ranker.compare(&[pair("aa", "a"), pair("a", "aa"), pair("aaaa", "a"), pair("a", "b")]).unwrap();
        use Verdict::{First, Second, Tie};
        let verdicts: Vec<Verdict> = given.into_iter().map(|judgement| judgement.verdict).collect();
        assert_eq!(verdicts, [First, Second, First, Tie]);
        let bias = ranker.statistics().both_orders.unwrap();
        assert_eq!((bias.asked, bias.disagreed, bias.first_preferred), (4, 3, 3));
    }

    #[test]
    fn a_number_that_is_none_abstains() {
        let given = PairRanker::new(Longer(f64::NAN)).compare(&[pair("a", "b")]).unwrap();
        assert_eq!(given, [Judgement::of(Verdict::Abstain(Abstention::NotANumber))]);
    }
}
