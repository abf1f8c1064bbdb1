//! Judging: which two of a prompt's candidates make the pair, and which of them is better.
use bpo_annotate::{
    Annotator, Comparison, Contest, Extremes, Judgement, TieRule, Undecided, Verdict, extremes, missing_eos_penalty,
    rank,
};
use bpo_sampler::{Candidates, MemberRanks, PairSelection, Pick, Second, StreamKey, keyed_below};
use serde::{Deserialize, Serialize};

use crate::{Error, Sample, TrainPrompt};

/// What was said about a prompt's candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The two candidates that were compared, by index.
    pub pair: [usize; 2],
    /// Which of these two is better.
    pub verdict: Verdict,
    /// The annotator's scores of the candidates, where it gave any.
    pub scores: Vec<Option<f64>>,
}

impl Choice {
    /// The pair of a preference data set: its first candidate is the chosen one.
    pub fn given() -> Self {
        Self { pair: [0, 1], verdict: Verdict::First, scores: Vec::new() }
    }

    /// A candidate's score.
    pub fn score(&self, candidate: usize) -> Option<f64> {
        self.scores.get(candidate).copied().flatten()
    }

    fn compared(pair: [usize; 2], judgement: Judgement, candidates: usize) -> Self {
        let mut scores = Vec::new();
        if let Some(given) = judgement.scores {
            scores.resize(candidates, None);
            for (index, score) in pair.into_iter().zip(given) {
                scores[index] = Some(score);
            }
        }
        Self { pair, verdict: judgement.verdict, scores }
    }
}

/// A prompt with its candidates, and what is known of them.
pub(crate) struct Question<'a> {
    pub prompt: &'a TrainPrompt,
    pub candidates: Vec<&'a Sample>,
    /// The members' implicit rewards, where the selection reads them.
    pub members: Option<MemberRanks>,
    /// For random picks.
    pub key: StreamKey,
}

/// How pairs are made and judged.
pub(crate) struct Judge<'a> {
    pub annotator: &'a mut (dyn Annotator + Send),
    pub selection: PairSelection,
    pub ties: TieRule,
    pub missing_eos_penalty: Option<f64>,
}

/// Prompts asked about at once: their verdicts are recorded together, and progress is shown in between.
pub(crate) const QUESTIONS: usize = 32;

impl Judge<'_> {
    /// One choice for each question.
    pub fn judge(&mut self, questions: &[Question<'_>]) -> Result<Vec<Choice>, Error> {
        let ranks = self.selection.needs_scores();
        let mut choices = if ranks { self.ranked(questions)? } else { self.compared(questions)? };
        for (choice, question) in choices.iter_mut().zip(questions) {
            // Identical completions are no pair, whatever the rule.
            let [first, second] = two(question, choice.pair)?;
            if first.text != second.text {
                choice.verdict = choice.verdict.clone().settled(self.ties);
            }
        }
        Ok(choices)
    }

    /// Picks two candidates of each question without the annotator, and asks about those.
    fn compared(&mut self, questions: &[Question<'_>]) -> Result<Vec<Choice>, Error> {
        let pairs: Vec<[usize; 2]> = questions.iter().map(|question| self.picked(question, None)).collect();
        let mut comparisons = Vec::with_capacity(questions.len());
        for (question, pair) in questions.iter().zip(&pairs) {
            let [first, second] = two(question, *pair)?.map(|sample| sample.text.clone());
            comparisons.push(Comparison { prompt: question.prompt.text.clone(), first, second });
        }
        let judgements = self.annotator.compare(&comparisons)?;
        let choices = questions.iter().zip(pairs).zip(judgements).map(|((question, pair), judgement)| {
            let judgement = self.penalised(judgement, two(question, pair)?)?;
            Ok(Choice::compared(pair, judgement, question.candidates.len()))
        });
        choices.collect()
    }

    /// Has all candidates scored and picks two of each question by that; or, of an annotator that only compares, the best
    /// and the worst by all comparisons.
    fn ranked(&mut self, questions: &[Question<'_>]) -> Result<Vec<Choice>, Error> {
        let texts = |question: &Question<'_>| question.candidates.iter().map(|sample| sample.text.clone()).collect();
        let asked: Vec<(String, Vec<String>)> =
            questions.iter().map(|question| (question.prompt.text.clone(), texts(question))).collect();
        let Some(rankings) = rank(self.annotator, &asked)? else { return self.contested(asked) };
        let choices = questions.iter().zip(rankings).map(|(question, ranking)| {
            let scores = self.less_the_penalty(ranking.scores, question);
            let values: Vec<f64> = scores.iter().map(|score| score.unwrap_or(f64::NAN)).collect();
            let pair = self.picked(question, Some(&values));
            Choice { pair, verdict: Verdict::of_scores(values[pair[0]], values[pair[1]]), scores }
        });
        Ok(choices.collect())
    }

    fn contested(&mut self, asked: Vec<(String, Vec<String>)>) -> Result<Vec<Choice>, Error> {
        if self.selection != PairSelection::BestWorst || self.missing_eos_penalty.is_some() {
            return Err(needs_scores("missing_eos_penalty, and every pair_selection by scores but best_worst,"));
        }
        let contests: Vec<Contest> =
            asked.into_iter().map(|(prompt, responses)| Contest { prompt, responses }).collect();
        let choice = |decided: Result<Extremes, Undecided>| match decided {
            Ok(Extremes { best, worst, .. }) => {
                Choice { pair: [best, worst], verdict: Verdict::First, scores: Vec::new() }
            }
            Err(Undecided::Abstained(why)) => {
                Choice { pair: [0, 1], verdict: Verdict::Abstain(why), scores: Vec::new() }
            }
            Err(_) => Choice { pair: [0, 1], verdict: Verdict::Tie, scores: Vec::new() },
        };
        Ok(extremes(self.annotator, &contests)?.into_iter().map(choice).collect())
    }

    /// The two candidates to be compared; the first two where the rule finds none, which then tie.
    fn picked(&self, question: &Question<'_>, scores: Option<&[f64]>) -> [usize; 2] {
        let count = question.candidates.len();
        // The reference text of `ucb_ref` is the last candidate and not among those picked from.
        let sampled = if self.selection == PairSelection::UcbRef { count - 1 } else { count };
        let known = Candidates { count: sampled, members: question.members.as_ref(), scores };
        match self.selection.select(&known, keyed_below(question.key)) {
            Some(Pick { first, second: Second::Candidate(second) }) => [first, second],
            Some(Pick { first, second: Second::Reference }) => [first, count - 1],
            None => [0, 1],
        }
    }

    /// TRL's `missing_eos_penalty`: subtracted from the score of a completion that was cut, before comparing.
    fn penalised(&self, judgement: Judgement, pair: [&Sample; 2]) -> Result<Judgement, Error> {
        let Some(penalty) = self.missing_eos_penalty else { return Ok(judgement) };
        match (judgement.scores, &judgement.verdict) {
            (Some([first, second]), _) => {
                let score = |score: f64, sample: &Sample| missing_eos_penalty(score, sample.eos, penalty);
                Ok(Judgement::of_scores(score(first, pair[0]), score(second, pair[1])))
            }
            (None, Verdict::First | Verdict::Second) => Err(needs_scores("missing_eos_penalty")),
            (None, _) => Ok(judgement),
        }
    }

    fn less_the_penalty(&self, scores: Vec<Option<f64>>, question: &Question<'_>) -> Vec<Option<f64>> {
        let Some(penalty) = self.missing_eos_penalty else { return scores };
        let less = |(score, sample): (Option<f64>, &&Sample)| Some(missing_eos_penalty(score?, sample.eos, penalty));
        scores.into_iter().zip(&question.candidates).map(less).collect()
    }
}

fn needs_scores(what: &str) -> Error {
    Error::Recipe(format!("{what} needs an annotator that gives scores"))
}

fn two<'a>(question: &Question<'a>, pair: [usize; 2]) -> Result<[&'a Sample; 2], Error> {
    match pair.map(|index| question.candidates.get(index).copied()) {
        [Some(first), Some(second)] => Ok([first, second]),
        _ => Err(Error::Data(format!("prompt {} has no two completions", question.prompt.id))),
    }
}
