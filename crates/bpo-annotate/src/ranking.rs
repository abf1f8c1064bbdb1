//! Orders any number of responses by an annotator's scores. For one that only compares see [`extremes`](crate::extremes).

use serde::{Deserialize, Serialize};

use crate::{Annotator, Error, Item};

/// The responses to one prompt, from best to worst. It survives JSON unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// `[responses]`, the annotator's finite scores; `None` where there is none.
    pub scores: Vec<Option<f64>>,
    /// Indices of the responses, best first. Equal ones keep their order; those without a score come last.
    pub order: Vec<usize>,
    /// Responses that got no score.
    pub abstained: usize,
}

impl Ranking {
    /// The ranking that follows from scores, `[responses]`; one that is not finite counts as none.
    pub fn of_scores(scores: impl IntoIterator<Item = f64>) -> Self {
        let scores: Vec<Option<f64>> = scores.into_iter().map(|score| score.is_finite().then_some(score)).collect();
        let abstained = scores.iter().filter(|score| score.is_none()).count();
        Self::new(scores, abstained)
    }

    /// The ranking that follows from ranks, `[responses]`, 1 being the best, as PairRM gives them (Jiang et al.
    /// 2023, arXiv:2306.02561). SELM (Zhang et al. 2024, arXiv:2405.19332) ranks its own response and the data's
    /// chosen and rejected ones and trains on [`Ranking::pair`].
    pub fn of_ranks(ranks: impl IntoIterator<Item = u32>) -> Self {
        Self::of_scores(ranks.into_iter().map(|rank| -f64::from(rank)))
    }

    fn new(scores: Vec<Option<f64>>, abstained: usize) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // All scores are finite, and `None` is less than any.
        order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(std::cmp::Ordering::Equal));
        Self { scores, order, abstained }
    }

    /// The best response, the first among equals; `None` unless another one has a lower score.
    pub fn best(&self) -> Option<usize> {
        self.pair().map(|(best, _)| best)
    }

    /// The worst response, the first among equals; `None` unless another one has a higher score.
    pub fn worst(&self) -> Option<usize> {
        self.pair().map(|(_, worst)| worst)
    }

    /// The best and the worst response, the first among equals; `None` when no two scores differ.
    pub fn pair(&self) -> Option<(usize, usize)> {
        let scored = || self.scores.iter().enumerate().filter_map(|(index, score)| Some((index, (*score)?)));
        let best = scored().reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        let worst = scored().reduce(|worst, next| if next.1 < worst.1 { next } else { worst })?;
        (best.1 > worst.1).then_some((best.0, worst.0))
    }
}

/// Ranks the responses of each question, a prompt with its responses, by the annotator's scores, all asked for in one
/// call; `None` when it only compares. Identical responses are scored once.
///
/// # Errors
/// Those of the annotator, and [`Error::WrongCount`].
pub fn rank<S: AsRef<str>>(
    annotator: &mut dyn Annotator,
    questions: &[(S, Vec<S>)],
) -> Result<Option<Vec<Ranking>>, Error> {
    let questions: Vec<Question<'_>> = questions.iter().map(Question::new).collect();
    let items: Vec<Item> = questions.iter().flat_map(Question::items).collect();
    let Some(scores) = annotator.score(&items).transpose()? else { return Ok(None) };
    Error::unless_counts_match(|| annotator.name(), items.len(), scores.len())?;
    let mut rest = scores.as_slice();
    let ranking = |question: &Question<'_>| {
        let (scores, others) = rest.split_at(question.distinct.len());
        rest = others;
        Ranking::of_scores(question.place.iter().map(|&place| scores[place]))
    };
    Ok(Some(questions.iter().map(ranking).collect()))
}

/// A prompt's responses with each text once.
struct Question<'a> {
    prompt: &'a str,
    distinct: Vec<&'a str>,
    /// `[responses]`, where in `distinct` each of them is.
    place: Vec<usize>,
}

impl<'a> Question<'a> {
    fn new<S: AsRef<str>>((prompt, responses): &'a (S, Vec<S>)) -> Self {
        let mut distinct: Vec<&str> = Vec::new();
        let mut place = |response: &'a str| {
            distinct.iter().position(|known| *known == response).unwrap_or_else(|| {
                distinct.push(response);
                distinct.len() - 1
            })
        };
        let place = responses.iter().map(|response| place(response.as_ref())).collect();
        Self { prompt: prompt.as_ref(), distinct, place }
    }

    fn items(&self) -> impl Iterator<Item = Item> {
        self.distinct.iter().map(|response| Item::new(self.prompt, *response))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{Comparison, Judgement, Scored, scorer_from};

    fn scorer() -> impl Annotator {
        Scored(scorer_from("length", |items: &[Item]| {
            let score =
                |item: &Item| if item.response.starts_with('?') { f64::NAN } else { item.response.len() as f64 };
            Ok(items.iter().map(score).collect())
        }))
    }

    fn ranked(annotator: &mut dyn Annotator, responses: &[String]) -> Ranking {
        rank(annotator, &[(String::from("p"), responses.to_vec())]).unwrap().unwrap().remove(0)
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    proptest! {
        #[test]
        fn reordered_responses_keep_their_scores(
            (before, order) in vec("[?ab]{0,4}", 0..7)
                .prop_flat_map(|texts| (Just(texts.clone()), Just((0..texts.len()).collect::<Vec<_>>()).prop_shuffle())),
        ) {
            let after: Vec<String> = order.iter().map(|&index| before[index].clone()).collect();
            let (before, after) = (ranked(&mut scorer(), &before), ranked(&mut scorer(), &after));
            let moved: Vec<Option<f64>> = order.iter().map(|&index| before.scores[index]).collect();
            prop_assert_eq!(&after.scores, &moved);
            prop_assert_eq!(after.abstained, before.abstained);
            let sorted = |ranking: &Ranking| ranking.order.iter().map(|&i| ranking.scores[i]).collect::<Vec<_>>();
            prop_assert_eq!(sorted(&after), sorted(&before));
        }

        #[test]
        fn a_ranking_survives_json_unchanged(scores in vec(any::<f64>(), 0..6)) {
            let ranking = Ranking::of_scores(scores);
            let text = serde_json::to_string(&ranking).unwrap();
            prop_assert_eq!(serde_json::from_str::<Ranking>(&text).unwrap(), ranking);
        }

        #[test]
        fn the_order_falls_and_holds_every_response_once(scores in vec(-2i8..3, 0..8)) {
            let ranking = Ranking::of_scores(scores.iter().map(|&score| f64::from(score)));
            let falls = |pair: &[usize]| (scores[pair[0]], pair[1]) > (scores[pair[1]], pair[0]);
            prop_assert!(ranking.order.windows(2).all(falls));
            let mut sorted = ranking.order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..scores.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_different_response_is_scored_once_in_one_call() {
        let mut calls = Vec::new();
        let mut annotator = Scored(scorer_from("length", |items: &[Item]| {
            calls.push(items.to_vec());
            Ok(items.iter().map(|item| item.response.len() as f64).collect())
        }));
        let questions = [("p", vec!["a", "bb", "a"]), ("q", vec!["a"])];
        let rankings = rank(&mut annotator, &questions).unwrap().unwrap();
        assert_eq!(rankings[0].scores, [1.0, 2.0, 1.0].map(Some));
        assert_eq!(rankings[1].order, [0]);
        assert_eq!(calls, [[("p", "a"), ("p", "bb"), ("q", "a")].map(|(p, r)| Item::new(p, r))]);
    }

    #[test]
    fn a_response_without_a_score_comes_last_and_is_reported() {
        let ranking = ranked(&mut scorer(), &texts(&["bb", "?", "a"]));
        assert_eq!(ranking, Ranking { scores: vec![Some(2.0), None, Some(1.0)], order: vec![0, 2, 1], abstained: 1 });
        assert_eq!(ranking.pair(), Some((0, 2)));
    }

    #[test]
    fn an_annotator_that_only_compares_does_not_rank() {
        struct Compares;
        impl Annotator for Compares {
            fn name(&self) -> String {
                "compares".into()
            }

            fn compare(&mut self, _: &[Comparison]) -> Result<Vec<Judgement>, Error> {
                Ok(Vec::new())
            }
        }
        assert!(rank(&mut Compares, &[("p", vec!["a", "b"])]).unwrap().is_none());
    }

    #[test]
    fn equal_scores_have_neither_a_best_nor_a_worst() {
        for scores in [vec![], vec![1.0], vec![1.0, 1.0], vec![f64::NAN, 1.0], vec![0.0, -0.0]] {
            let ranking = Ranking::of_scores(scores);
            assert_eq!((ranking.best(), ranking.worst()), (None, None), "{ranking:?}");
        }
        let ranking = Ranking::of_scores([0.0, 1.0, 1.0, 0.0]);
        assert_eq!((ranking.best(), ranking.worst()), (Some(1), Some(0)));
    }

    #[test]
    fn the_lowest_rank_is_the_best() {
        assert_eq!(Ranking::of_ranks([3, 1, 2]).order, [1, 2, 0]);
    }

    #[test]
    fn a_wrong_count_of_answers_is_an_error() {
        let mut short = Scored(scorer_from("short", |_: &[Item]| Ok(vec![1.0])));
        assert!(matches!(
            rank(&mut short, &[("p", vec!["a", "b"])]),
            Err(Error::WrongCount { asked: 2, given: 1, .. })
        ));
    }
}
