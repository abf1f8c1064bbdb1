//! The one trait a judge implements, and the wrapper that spares it pointless questions.

use serde::{Deserialize, Serialize};

use crate::{Comparison, Error, Judgement, Statistics, Verdict};

/// One prompt with one response.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Item {
    /// What the response answers.
    pub prompt: String,
    /// The response to be scored.
    pub response: String,
}

impl Item {
    /// An item from its two parts.
    pub fn new(prompt: impl Into<String>, response: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), response: response.into() }
    }
}

/// Anything that can say which of two responses is better.
pub trait Annotator {
    /// A name for logs and the run record.
    fn name(&self) -> String;

    /// One judgement for each comparison, in the same order.
    ///
    /// # Errors
    /// When no further question can be answered. A single question that went wrong is
    /// [`Verdict::Abstain`], not an error.
    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error>;

    /// Scalar scores, one for each item, when this annotator has them (a NaN where there is
    /// no score); `None` when it only compares.
    fn score(&mut self, items: &[Item]) -> Option<Result<Vec<f64>, Error>> {
        let _ = items;
        None
    }

    /// What it did so far; empty where there is nothing to tell.
    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}

impl<A: Annotator + ?Sized> Annotator for Box<A> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        (**self).compare(batch)
    }

    fn score(&mut self, items: &[Item]) -> Option<Result<Vec<f64>, Error>> {
        (**self).score(items)
    }

    fn statistics(&self) -> Statistics {
        (**self).statistics()
    }
}

/// Asks `annotator` about the comparisons whose responses differ.
/// Identical responses tie without a question.
///
/// # Errors
/// Those of the annotator, and [`Error::WrongCount`].
pub fn compare_distinct(
    annotator: &mut (impl Annotator + ?Sized),
    batch: &[Comparison],
) -> Result<Vec<Judgement>, Error> {
    let asked: Vec<Comparison> = batch.iter().filter(|c| !c.is_identical()).cloned().collect();
    let given = if asked.is_empty() { Vec::new() } else { annotator.compare(&asked)? };
    Error::unless_counts_match(|| annotator.name(), asked.len(), given.len())?;
    let mut given = given.into_iter();
    let tie = || Judgement::of(Verdict::Tie);
    Ok(batch
        .iter()
        .map(|comparison| match comparison.is_identical() {
            true => tie(),
            false => given.next().unwrap_or_else(tie),
        })
        .collect())
}

/// Identical responses tie without a question; everything else is passed on.
/// Every annotator built from a recipe is wrapped in it.
#[derive(Debug, Clone)]
pub struct TieIdentical<A>(pub A);

impl<A: Annotator> Annotator for TieIdentical<A> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        compare_distinct(&mut self.0, batch)
    }

    fn score(&mut self, items: &[Item]) -> Option<Result<Vec<f64>, Error>> {
        self.0.score(items)
    }

    fn statistics(&self) -> Statistics {
        self.0.statistics()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct AlwaysFirst {
        asked: usize,
        short_by: usize,
    }

    impl Annotator for AlwaysFirst {
        fn name(&self) -> String {
            "always first".into()
        }

        fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
            self.asked += batch.len();
            let given = batch.len() - self.short_by;
            Ok(vec![Judgement::of(Verdict::First); given])
        }
    }

    fn pair(first: &str, second: &str) -> Comparison {
        Comparison { prompt: "p".into(), first: first.into(), second: second.into() }
    }

    #[test]
    fn identical_responses_tie_without_a_question() {
        let mut annotator = TieIdentical(AlwaysFirst { asked: 0, short_by: 0 });
        let batch = [pair("a", "a"), pair("a", "b"), pair("", ""), pair("b", "")];
        let verdicts: Vec<_> =
            annotator.compare(&batch).unwrap().into_iter().map(|judgement| judgement.verdict).collect();
        use Verdict::{First, Tie};
        assert_eq!(verdicts, [Tie, First, Tie, First]);
        assert_eq!(annotator.0.asked, 2);
    }

    #[test]
    fn a_wrong_count_of_answers_is_an_error() {
        let mut annotator = AlwaysFirst { asked: 0, short_by: 1 };
        let refused = compare_distinct(&mut annotator, &[pair("a", "b"), pair("b", "c")]);
        assert!(matches!(refused, Err(Error::WrongCount { asked: 2, given: 1, .. })));
    }

    #[test]
    fn a_boxed_annotator_is_an_annotator() {
        let mut boxed: Box<dyn Annotator + Send> = Box::new(AlwaysFirst { asked: 0, short_by: 0 });
        assert_eq!(TieIdentical(&mut *boxed as &mut dyn Annotator).0.name(), "always first");
        assert_eq!(boxed.compare(&[pair("a", "b")]).unwrap().len(), 1);
        assert!(boxed.score(&[]).is_none());
    }
}
