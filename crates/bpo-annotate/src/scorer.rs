//! Scores for single responses, and the annotator that follows from them.

use std::collections::HashMap;

use crate::{Abstention, Annotator, Comparison, Error, Item, Judgement, Statistics, Verdict};

/// Anything that gives a response a number: the higher, the better.
pub trait Scorer {
    /// A name for logs and the run record.
    fn name(&self) -> String;

    /// One score for each item, in the same order; NaN where there is no score.
    ///
    /// # Errors
    /// When no further item can be scored.
    fn score(&mut self, items: &[Item]) -> Result<Vec<f64>, Error>;

    /// As [`Scorer::score`], with the reason where there is no score.
    ///
    /// # Errors
    /// When no further item can be scored.
    fn score_or_abstain(&mut self, items: &[Item]) -> Result<Vec<Result<f64, Abstention>>, Error> {
        let scores = self.score(items)?;
        Ok(scores.into_iter().map(finite).collect())
    }

    /// What it did so far; empty where there is nothing to tell.
    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}

fn finite(score: f64) -> Result<f64, Abstention> {
    score.is_finite().then_some(score).ok_or(Abstention::NotANumber)
}

impl<S: Scorer + ?Sized> Scorer for Box<S> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn score(&mut self, items: &[Item]) -> Result<Vec<f64>, Error> {
        (**self).score(items)
    }

    fn score_or_abstain(&mut self, items: &[Item]) -> Result<Vec<Result<f64, Abstention>>, Error> {
        (**self).score_or_abstain(items)
    }

    fn statistics(&self) -> Statistics {
        (**self).statistics()
    }
}

/// A response's score less `penalty` where it was cut before it ended (no EOS): TRL's `missing_eos_penalty`, taken
/// off before scores are compared.
pub fn missing_eos_penalty(score: f64, ended: bool, penalty: f64) -> f64 {
    if ended { score } else { score - penalty }
}

/// The annotator that follows from a scorer: the higher score wins, strictly.
/// Within a batch each distinct item is scored once.
#[derive(Debug, Clone)]
pub struct Scored<S>(pub S);

impl<S: Scorer> Annotator for Scored<S> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        let (items, pairs) = distinct(batch);
        let scores = self.0.score_or_abstain(&items)?;
        Error::unless_counts_match(|| self.0.name(), items.len(), scores.len())?;
        Ok(pairs.into_iter().map(|(first, second)| judge(&scores[first], &scores[second])).collect())
    }

    fn score(&mut self, items: &[Item]) -> Option<Result<Vec<f64>, Error>> {
        Some(self.score_all(items))
    }

    fn statistics(&self) -> Statistics {
        self.0.statistics()
    }
}

impl<S: Scorer> Scored<S> {
    fn score_all(&mut self, items: &[Item]) -> Result<Vec<f64>, Error> {
        let scores = self.0.score(items)?;
        Error::unless_counts_match(|| self.0.name(), items.len(), scores.len())?;
        Ok(scores)
    }
}

fn judge(first: &Result<f64, Abstention>, second: &Result<f64, Abstention>) -> Judgement {
    match (first, second) {
        (Ok(first), Ok(second)) => Judgement::of_scores(*first, *second),
        (Err(why), _) | (_, Err(why)) => Judgement::of(Verdict::Abstain(why.clone())),
    }
}

/// The distinct items of a batch, and for each comparison the places of its two items.
fn distinct(batch: &[Comparison]) -> (Vec<Item>, Vec<(usize, usize)>) {
    let mut places = HashMap::new();
    let mut items = Vec::new();
    let mut place = |prompt, response| {
        *places.entry((prompt, response)).or_insert_with(|| {
            items.push(Item::new(prompt, response));
            items.len() - 1
        })
    };
    let pairs = batch
        .iter()
        .map(|pair| {
            let first = place(pair.prompt.as_str(), pair.first.as_str());
            (first, place(&pair.prompt, &pair.second))
        })
        .collect();
    (items, pairs)
}

/// A scorer made of a name and a function: how a local reward model reaches this crate.
#[derive(Debug, Clone)]
pub struct ClosureScorer<F> {
    name: String,
    score: F,
}

/// A scorer from a function over items. A NaN it returns becomes an abstention, a message
/// it fails with becomes [`Error::Scorer`].
pub fn scorer_from<F>(name: impl Into<String>, score: F) -> ClosureScorer<F>
where
    F: FnMut(&[Item]) -> Result<Vec<f64>, String>,
{
    ClosureScorer { name: name.into(), score }
}

impl<F> Scorer for ClosureScorer<F>
where
    F: FnMut(&[Item]) -> Result<Vec<f64>, String>,
{
    fn name(&self) -> String {
        self.name.clone()
    }

    fn score(&mut self, items: &[Item]) -> Result<Vec<f64>, Error> {
        (self.score)(items).map_err(|reason| Error::Scorer { name: self.name.clone(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(prompt: &str, first: &str, second: &str) -> Comparison {
        Comparison { prompt: prompt.into(), first: first.into(), second: second.into() }
    }

    #[test]
    fn each_distinct_item_is_scored_once() {
        let mut asked = Vec::new();
        let scorer = scorer_from("length", |items: &[Item]| {
            asked.extend(items.to_vec());
            Ok(items.iter().map(|i| i.response.len() as f64).collect())
        });
        let batch = [pair("p", "a", "bb"), pair("p", "bb", "a"), pair("p", "a", "a"), pair("q", "a", "ccc")];
        let given = Scored(scorer).compare(&batch).unwrap();
        use Verdict::{First, Second, Tie};
        let verdicts: Vec<_> = given.iter().map(|j| j.verdict.clone()).collect();
        assert_eq!(verdicts, [Second, First, Tie, Second]);
        assert_eq!(given[0].scores, Some([1.0, 2.0]));
        let expected = [("p", "a"), ("p", "bb"), ("q", "a"), ("q", "ccc")];
        assert_eq!(asked, expected.map(|(p, r)| Item::new(p, r)));
    }

    #[test]
    fn only_a_cut_response_pays_the_penalty() {
        assert_eq!(missing_eos_penalty(0.5, true, 1.0), 0.5);
        assert_eq!(missing_eos_penalty(0.5, false, 1.0), -0.5);
    }

    #[test]
    fn a_nan_becomes_an_abstention() {
        let scorer = scorer_from("nan", |items: &[Item]| Ok(vec![f64::NAN; items.len()]));
        let given = Scored(scorer).compare(&[pair("p", "a", "b")]).unwrap();
        let abstained = Verdict::Abstain(Abstention::NotANumber);
        assert_eq!(given, [Judgement::of(abstained)]);
    }

    #[test]
    fn too_few_scores_are_an_error() {
        let mut short = Scored(scorer_from("short", |_: &[Item]| Ok(vec![1.0])));
        assert!(short.compare(&[pair("p", "a", "b")]).is_err());
        assert!(short.score(&[]).unwrap().is_err());
    }

    #[test]
    fn a_failing_function_is_named() {
        let mut failing = Scored(scorer_from("rm", |_: &[Item]| Err("out of memory".into())));
        let error = failing.compare(&[pair("p", "a", "b")]).unwrap_err();
        assert_eq!(error.to_string(), "annotator rm: out of memory");
    }
}
