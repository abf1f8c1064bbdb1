//! Orders any number of responses with any annotator: by its scores, or by the comparisons they win.

use serde::{Deserialize, Serialize};

use crate::{Annotator, Comparison, Error, Item, Judgement, Verdict};

/// The responses to one prompt, from best to worst. It survives JSON unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// `[responses]`, the annotator's finite scores or, of one that only compares, the wins of each response over
    /// the others with a tie as half a win (Copeland). `None` where there is no score, or no verdict on any pair.
    pub scores: Vec<Option<f64>>,
    /// Indices of the responses, best first. Equal ones keep their order; those without a score come last.
    pub order: Vec<usize>,
    /// Questions without an answer: responses that got no score, or pairs that got no verdict.
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

/// Ranks the responses of each question, a prompt with its responses.
///
/// An annotator with scores gives one to every response, all in one call. Any other is asked about every pair of
/// each prompt's responses, also in one call, in the order in which they are given; against a preference for the
/// response shown first, wrap it in [`BothOrders`](crate::BothOrders). Identical responses are scored once, and tie
/// without a question.
///
/// # Errors
/// Those of the annotator, and [`Error::WrongCount`].
pub fn rank<S: AsRef<str>>(annotator: &mut dyn Annotator, questions: &[(S, Vec<S>)]) -> Result<Vec<Ranking>, Error> {
    let questions: Vec<Question<'_>> = questions.iter().map(Question::new).collect();
    let items: Vec<Item> = questions.iter().flat_map(Question::items).collect();
    let scores = if items.is_empty() { Some(Ok(Vec::new())) } else { annotator.score(&items) };
    let Some(scores) = scores else { return rank_by_wins(annotator, &questions) };
    let scores = scores?;
    Error::unless_counts_match(|| annotator.name(), items.len(), scores.len())?;
    let mut rest = scores.as_slice();
    Ok(questions
        .iter()
        .map(|question| {
            let (scores, others) = rest.split_at(question.distinct.len());
            rest = others;
            Ranking::of_scores(question.place.iter().map(|&place| scores[place]))
        })
        .collect())
}

fn rank_by_wins(annotator: &mut dyn Annotator, questions: &[Question<'_>]) -> Result<Vec<Ranking>, Error> {
    let asked: Vec<Comparison> = questions.iter().flat_map(Question::comparisons).collect();
    let given = if asked.is_empty() { Vec::new() } else { annotator.compare(&asked)? };
    Error::unless_counts_match(|| annotator.name(), asked.len(), given.len())?;
    let mut rest = given.as_slice();
    Ok(questions
        .iter()
        .map(|question| {
            let (judgements, others) = rest.split_at(question.pairs().count());
            rest = others;
            question.rank_by_wins(judgements)
        })
        .collect())
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

    /// Every pair of different responses, as places.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let count = self.distinct.len();
        (0..count).flat_map(move |first| (first + 1..count).map(move |second| (first, second)))
    }

    fn comparisons(&self) -> impl Iterator<Item = Comparison> {
        self.pairs().map(|(first, second)| Comparison {
            prompt: self.prompt.into(),
            first: self.distinct[first].into(),
            second: self.distinct[second].into(),
        })
    }

    /// `judgements` are those on [`Question::pairs`].
    fn rank_by_wins(&self, judgements: &[Judgement]) -> Ranking {
        let mut copies = vec![0.0; self.distinct.len()];
        self.place.iter().for_each(|&place| copies[place] += 1.0);
        // Against its own copies a response ties.
        let mut tally: Vec<Tally> =
            copies.iter().map(|copies| Tally { wins: (copies - 1.0) / 2.0, met: copies - 1.0 }).collect();
        let mut abstained = 0;
        for ((first, second), judgement) in self.pairs().zip(judgements) {
            let Some(share) = share_of_first(&judgement.verdict) else {
                abstained += 1;
                continue;
            };
            tally[first].add(share, copies[second]);
            tally[second].add(1.0 - share, copies[first]);
        }
        Ranking::new(self.place.iter().map(|&place| tally[place].score()).collect(), abstained)
    }
}

/// What a response has won so far.
struct Tally {
    wins: f64,
    /// Responses that it was judged against.
    met: f64,
}

impl Tally {
    fn add(&mut self, share: f64, opponents: f64) {
        self.wins += share * opponents;
        self.met += opponents;
    }

    fn score(&self) -> Option<f64> {
        (self.met > 0.0).then_some(self.wins)
    }
}

fn share_of_first(verdict: &Verdict) -> Option<f64> {
    match verdict {
        Verdict::First => Some(1.0),
        Verdict::Second => Some(0.0),
        Verdict::Tie => Some(0.5),
        Verdict::Abstain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{Abstention, Scored, scorer_from};

    /// Compares by length; texts that begin with `?` have no verdict.
    #[derive(Default)]
    struct Longer {
        asked: Vec<Comparison>,
        calls: usize,
    }

    impl Annotator for Longer {
        fn name(&self) -> String {
            "longer".into()
        }

        fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
            self.asked.extend(batch.to_vec());
            self.calls += 1;
            let verdict = |c: &Comparison| match c.first.starts_with('?') || c.second.starts_with('?') {
                true => Verdict::Abstain(Abstention::TimedOut),
                false => Verdict::of_scores(c.first.len() as f64, c.second.len() as f64),
            };
            Ok(batch.iter().map(|comparison| Judgement::of(verdict(comparison))).collect())
        }
    }

    fn scorer() -> impl Annotator {
        Scored(scorer_from("length", |items: &[Item]| {
            let score =
                |item: &Item| if item.response.starts_with('?') { f64::NAN } else { item.response.len() as f64 };
            Ok(items.iter().map(score).collect())
        }))
    }

    fn ranked(annotator: &mut dyn Annotator, responses: &[String]) -> Ranking {
        rank(annotator, &[(String::from("p"), responses.to_vec())]).unwrap().remove(0)
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    proptest! {
        #[test]
        fn a_judge_that_agrees_with_a_scorer_gives_the_same_order(responses in vec("[ab]{0,4}", 0..7)) {
            let (wins, scores) = (ranked(&mut Longer::default(), &responses), ranked(&mut scorer(), &responses));
            prop_assert_eq!(wins.pair(), scores.pair());
            prop_assert_eq!((wins.order, wins.abstained), (scores.order, scores.abstained));
        }

        #[test]
        fn reordered_responses_keep_their_scores(
            (before, order) in vec("[?ab]{0,4}", 0..7)
                .prop_flat_map(|texts| (Just(texts.clone()), Just((0..texts.len()).collect::<Vec<_>>()).prop_shuffle())),
        ) {
            let after: Vec<String> = order.iter().map(|&index| before[index].clone()).collect();
            let annotators: [fn() -> Box<dyn Annotator>; 2] = [|| Box::new(Longer::default()), || Box::new(scorer())];
            for annotator in annotators {
                let (before, after) = (ranked(&mut *annotator(), &before), ranked(&mut *annotator(), &after));
                let moved: Vec<Option<f64>> = order.iter().map(|&index| before.scores[index]).collect();
                prop_assert_eq!(&after.scores, &moved);
                prop_assert_eq!(after.abstained, before.abstained);
                let sorted = |ranking: &Ranking| ranking.order.iter().map(|&i| ranking.scores[i]).collect::<Vec<_>>();
                prop_assert_eq!(sorted(&after), sorted(&before));
            }
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
    fn every_pair_of_different_responses_is_asked_about_once_in_one_call() {
        let mut judge = Longer::default();
        let questions = [("p", vec!["a", "bb", "a", "ccc"]), ("q", vec!["a", "bb"]), ("r", vec!["same", "same"])];
        let rankings = rank(&mut judge, &questions).unwrap();
        let asked: Vec<String> = judge.asked.iter().map(|c| format!("{} {} {}", c.prompt, c.first, c.second)).collect();
        assert_eq!(asked, ["p a bb", "p a ccc", "p bb ccc", "q a bb"]);
        assert_eq!(judge.calls, 1);
        assert_eq!(rankings[0].scores, [0.5, 2.0, 0.5, 3.0].map(Some));
        assert_eq!(rankings[0].order, [3, 1, 0, 2]);
        assert_eq!(rankings[0].pair(), Some((3, 0)));
        assert_eq!(rankings[2].pair(), None);
    }

    #[test]
    fn every_different_response_is_scored_once_in_one_call() {
        let mut calls = Vec::new();
        let mut annotator = Scored(scorer_from("length", |items: &[Item]| {
            calls.push(items.to_vec());
            Ok(items.iter().map(|item| item.response.len() as f64).collect())
        }));
        let questions = [("p", vec!["a", "bb", "a"]), ("q", vec!["a"])];
        let rankings = rank(&mut annotator, &questions).unwrap();
        assert_eq!(rankings[0].scores, [1.0, 2.0, 1.0].map(Some));
        assert_eq!(rankings[1].order, [0]);
        assert_eq!(calls, [[("p", "a"), ("p", "bb"), ("q", "a")].map(|(p, r)| Item::new(p, r))]);
    }

    #[test]
    fn an_abstention_counts_for_neither_and_is_reported() {
        let by_wins = ranked(&mut Longer::default(), &texts(&["bb", "?", "a"]));
        assert_eq!(by_wins, Ranking { scores: vec![Some(1.0), None, Some(0.0)], order: vec![0, 2, 1], abstained: 2 });
        let by_scores = ranked(&mut scorer(), &texts(&["bb", "?", "a"]));
        assert_eq!(by_scores.order, by_wins.order);
        assert_eq!((by_scores.pair(), by_scores.abstained), (Some((0, 2)), 1));
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
