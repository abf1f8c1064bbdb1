//! Verdicts and ratings out of a local model's log-probs, or of its replies.

use super::{LocalModel, Question, Reply};
use crate::cache::Answer;
use crate::chat::{Template, grammar, scored};
use crate::config::Reading;
use crate::{Abstention, Annotator, Comparison, Error, Item, Judgement, Scorer, Statistics, Verdict};

/// The words that a comparison is answered with.
const VERDICTS: [&str; 3] = ["A", "B", "tie"];

/// How a local model is asked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub system: Option<String>,
    pub template: Template,
    pub reading: Reading,
    pub max_new_tokens: usize,
}

/// Compares two responses.
pub(crate) struct LocalJudge {
    pub model: Box<dyn LocalModel + Send>,
    pub settings: Settings,
    pub told: Told,
}

/// Rates one response at a time, in whole numbers on the scale.
pub(crate) struct LocalRater {
    pub model: Box<dyn LocalModel + Send>,
    pub settings: Settings,
    pub scale: [i64; 2],
    pub told: Told,
}

/// What is told of a local model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Statistics);

impl Told {
    fn count<T>(&mut self, answers: &[Result<T, Abstention>]) {
        self.0.asked += answers.len() as u64;
        for why in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            *self.0.abstained.entry(why.reason().to_owned()).or_default() += 1;
        }
    }
}

impl Settings {
    fn question(&self, values: &[(&'static str, &str)]) -> Result<Question, Error> {
        Ok(Question { system: self.system.clone(), user: self.template.render(values)? })
    }

    /// The answers' log-probs, or why there are none.
    fn logps(
        model: &mut dyn LocalModel,
        questions: &[Question],
        answers: &[String],
    ) -> Result<Vec<Result<Vec<f64>, Abstention>>, Error> {
        let given = model.answer_logps(questions, answers).map_err(|reason| failed(model, reason))?;
        Error::unless_counts_match(|| model.name(), questions.len(), given.len())?;
        let finite = |logps: Vec<f64>| {
            let is_finite = logps.len() == answers.len() && logps.iter().all(|logp| logp.is_finite());
            is_finite.then_some(logps).ok_or(Abstention::NotANumber)
        };
        Ok(given.into_iter().map(|logps| logps.map_err(Abstention::Failed).and_then(finite)).collect())
    }

    /// What the replies mean.
    fn read(
        &self,
        model: &mut dyn LocalModel,
        questions: &[Question],
        read: impl Fn(&str) -> Result<Answer, Abstention>,
    ) -> Result<Vec<Result<Answer, Abstention>>, Error> {
        let given = model.replies(questions, self.max_new_tokens).map_err(|reason| failed(model, reason))?;
        Error::unless_counts_match(|| model.name(), questions.len(), given.len())?;
        let meant = |reply: Result<Reply, String>| match reply {
            Err(reason) => Err(Abstention::Failed(reason)),
            Ok(Reply { text, ended: false }) => {
                Err(Abstention::Malformed(format!("cut before its end, see `max_new_tokens`: {text}")))
            }
            Ok(Reply { text, ended: true }) => read(&text),
        };
        Ok(given.into_iter().map(meant).collect())
    }
}

fn failed(model: &dyn LocalModel, reason: String) -> Error {
    Error::Scorer { name: model.name(), reason }
}

/// The most probable verdict; equal log-probs of the best two tie.
fn verdict(logps: &[f64]) -> Verdict {
    match logps {
        [first, second, tie] if first > second && first > tie => Verdict::First,
        [first, second, tie] if second > first && second > tie => Verdict::Second,
        _ => Verdict::Tie,
    }
}

/// Mean of the ratings by their probabilities. A rating that begins another one (1 and 10) keeps what the longer does
/// not take.
fn expected(ratings: &[String], logps: &[f64]) -> f64 {
    let probability = |at: usize| {
        let longer =
            ratings.iter().zip(logps).filter(|(other, _)| *other != &ratings[at] && other.starts_with(&ratings[at]));
        let taken: f64 = longer.map(|(_, logp)| logp.exp()).sum();
        (logps[at].exp() - taken).max(0.0)
    };
    let probabilities: Vec<f64> = (0..ratings.len()).map(probability).collect();
    let mean = ratings.iter().zip(&probabilities).map(|(rating, p)| rating.parse::<f64>().unwrap_or(f64::NAN) * p);
    mean.sum::<f64>() / probabilities.iter().sum::<f64>()
}

impl Annotator for LocalJudge {
    fn name(&self) -> String {
        format!("judge {}", self.model.name())
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        let question = |pair: &Comparison| {
            self.settings.question(&[("prompt", &pair.prompt), ("first", &pair.first), ("second", &pair.second)])
        };
        let questions = batch.iter().map(question).collect::<Result<Vec<Question>, Error>>()?;
        let model = self.model.as_mut();
        let verdicts: Vec<Result<Verdict, Abstention>> = match self.settings.reading {
            Reading::Logprobs => {
                let logps = Settings::logps(model, &questions, &VERDICTS.map(str::to_owned))?;
                logps.into_iter().map(|logps| logps.map(|logps| verdict(&logps))).collect()
            }
            Reading::Reply => {
                let no = || Abstention::Malformed("not a verdict".to_owned());
                let answers = self.settings.read(model, &questions, grammar::verdict)?;
                answers.into_iter().map(|answer| answer.and_then(|answer| answer.verdict().ok_or_else(no))).collect()
            }
        };
        self.told.count(&verdicts);
        Ok(verdicts.into_iter().map(|verdict| Judgement::of(verdict.unwrap_or_else(Verdict::Abstain))).collect())
    }

    fn statistics(&self) -> Statistics {
        self.told.0.clone()
    }
}

impl Scorer for LocalRater {
    fn name(&self) -> String {
        format!("judge {}", self.model.name())
    }

    fn score(&mut self, items: &[Item]) -> Result<Vec<f64>, Error> {
        Ok(self.score_or_abstain(items)?.into_iter().map(|score| score.unwrap_or(f64::NAN)).collect())
    }

    fn score_or_abstain(&mut self, items: &[Item]) -> Result<Vec<Result<f64, Abstention>>, Error> {
        let [lowest, highest] = self.scale.map(|end| end.to_string());
        let question = |item: &Item| {
            let (prompt, response) = (item.prompt.as_str(), item.response.as_str());
            let ends: [(&'static str, &str); 2] = [("lowest", &lowest), ("highest", &highest)];
            self.settings.question(&[("prompt", prompt), ("response", response), ends[0], ends[1]])
        };
        let questions = items.iter().map(question).collect::<Result<Vec<Question>, Error>>()?;
        let model = self.model.as_mut();
        let scores: Vec<Result<f64, Abstention>> = match self.settings.reading {
            Reading::Logprobs => {
                let ratings: Vec<String> = (self.scale[0]..=self.scale[1]).map(|rating| rating.to_string()).collect();
                let logps = Settings::logps(model, &questions, &ratings)?;
                let mean = |logps: Vec<f64>| Some(expected(&ratings, &logps)).filter(|mean| mean.is_finite());
                logps.into_iter().map(|l| l.and_then(|logps| mean(logps).ok_or(Abstention::NotANumber))).collect()
            }
            Reading::Reply => {
                let scale = self.scale.map(|end| end as f64);
                let answers = self.settings.read(model, &questions, |reply| grammar::rating(reply, scale))?;
                answers.into_iter().map(scored).collect()
            }
        };
        self.told.count(&scores);
        Ok(scores)
    }

    fn statistics(&self) -> Statistics {
        self.told.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{COMPARE, RATE};

    /// Knows what it answers to a text.
    struct Oracle {
        logps: fn(&str, &[String]) -> Vec<f64>,
        reply: fn(&str) -> Reply,
    }

    impl LocalModel for Oracle {
        fn name(&self) -> String {
            "oracle".into()
        }

        fn answer_logps(
            &mut self,
            questions: &[Question],
            answers: &[String],
        ) -> Result<Vec<Result<Vec<f64>, String>>, String> {
            let one = |question: &Question| match question.user.contains("too long") {
                true => Err("too long".to_owned()),
                false => Ok((self.logps)(&question.user, answers)),
            };
            Ok(questions.iter().map(one).collect())
        }

        fn replies(&mut self, questions: &[Question], _: usize) -> Result<Vec<Result<Reply, String>>, String> {
            Ok(questions.iter().map(|question| Ok((self.reply)(&question.user))).collect())
        }
    }

    fn settings(source: &str, reading: Reading) -> Settings {
        Settings { system: None, template: Template::new("test", source).unwrap(), reading, max_new_tokens: 4 }
    }

    fn pair(first: &str, second: &str) -> Comparison {
        Comparison { prompt: "p".into(), first: first.into(), second: second.into() }
    }

    fn judge(reading: Reading) -> LocalJudge {
        // Likes "good" wherever it is shown.
        let logps = |text: &str, _: &[String]| {
            let (a, b) = text.split_once("[Response B]").unwrap();
            let liked = |part: &str| if part.contains("good") { -0.1 } else { -3.0 };
            vec![liked(a), liked(b), -2.0]
        };
        let reply = |text: &str| match text.contains("cut") {
            true => Reply { text: "A".to_owned(), ended: false },
            false => Reply { text: "Verdict: B".to_owned(), ended: true },
        };
        let model = Box::new(Oracle { logps, reply });
        LocalJudge { model, settings: settings(COMPARE, reading), told: Told::default() }
    }

    fn verdicts(judge: &mut LocalJudge, batch: &[Comparison]) -> Vec<Verdict> {
        judge.compare(batch).unwrap().into_iter().map(|judgement| judgement.verdict).collect()
    }

    #[test]
    fn the_most_probable_answer_is_the_verdict() {
        let mut judge = judge(Reading::Logprobs);
        let batch =
            [pair("good", "x"), pair("x", "good"), pair("x", "y"), pair("good", "good too"), pair("too long", "x")];
        let given = verdicts(&mut judge, &batch);
        assert_eq!(given[..4], [Verdict::First, Verdict::Second, Verdict::Tie, Verdict::Tie]);
        assert_eq!(given[4], Verdict::Abstain(Abstention::Failed("too long".into())));
        assert_eq!((judge.statistics().asked, judge.statistics().abstained["failed"]), (5, 1));
    }

    #[test]
    fn a_reply_is_read_by_the_grammar_and_a_cut_one_abstains() {
        let given = verdicts(&mut judge(Reading::Reply), &[pair("x", "y"), pair("cut", "y")]);
        assert_eq!(given[0], Verdict::Second);
        assert!(matches!(&given[1], Verdict::Abstain(Abstention::Malformed(why)) if why.contains("max_new_tokens")));
    }

    #[test]
    fn a_rating_is_the_mean_by_probability() {
        let ratings: Vec<String> = ["1", "2", "10"].map(str::to_owned).into();
        // P(1…) = 0.5, of which 0.2 goes on to 10.
        let mean = expected(&ratings, &[0.5f64.ln(), 0.3f64.ln(), 0.2f64.ln()]);
        assert!((mean - (0.3 + 0.6 + 2.0) / 0.8).abs() < 1e-12, "{mean}");
        let logps = |text: &str, ratings: &[String]| {
            let best = if text.contains("good") { "9" } else { "2" };
            ratings.iter().map(|rating| if rating == best { -0.01 } else { -20.0 }).collect()
        };
        let model = Box::new(Oracle { logps, reply: |_| Reply { text: String::new(), ended: true } });
        let settings = settings(RATE, Reading::Logprobs);
        let mut rater = LocalRater { model, settings, scale: [1, 10], told: Told::default() };
        let scores = rater.score(&[Item::new("p", "good"), Item::new("p", "bad")]).unwrap();
        assert!((scores[0] - 9.0).abs() < 1e-3 && (scores[1] - 2.0).abs() < 1e-3, "{scores:?}");
    }
}
