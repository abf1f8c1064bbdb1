//! Evaluations along a run that samples, whatever it learns from: at the start, at the end and between.
use bpo_annotate::Annotator;
use bpo_data::Tokenizer;
use bpo_model::Decoder;
use bpo_store::{Journal, RunDir};

use super::gather::traced;
use crate::{
    CurvePoint, Error, EvalPrompt, Evaluation, Evaluator, Observer, Recipe, RefreshSchedule, Report, SamplePair,
    TrainPrompt, Trainable,
    evaluate::{win_rate, wins_by_score},
    state::State,
};

/// What the journal calls evaluations: before the first step, after the last one, and those between them.
const START: &str = "eval/start";
const END: &str = "eval/end";
const BETWEEN: &str = "eval/between";

/// What evaluations of a run work with.
pub(crate) struct Evaluations<'a> {
    /// The keys that runs of all kinds share.
    pub recipe: &'a Recipe,
    pub schedule: RefreshSchedule,
    pub dir: &'a RunDir,
    pub base: &'a Decoder,
    pub tokenizer: &'a Tokenizer,
    pub annotator: &'a mut dyn Annotator,
    pub journal: &'a mut Journal,
    /// Held-out prompts.
    pub prompts: &'a [EvalPrompt],
    /// The policy before step 0.
    pub initial: &'a Trainable,
    pub state: &'a State,
    /// Steps of the run.
    pub total: u64,
}

impl Evaluations<'_> {
    /// Whether one is due now, between the start and the end.
    pub fn are_due(&self) -> bool {
        self.recipe.evaluates_at(self.state.step, self.total, &self.schedule)
    }

    /// The evaluation of the start, told to the observer.
    pub fn first(&mut self, observer: &mut dyn Observer) -> Result<Evaluation, Error> {
        let is_new = !self.journal.contains(0, START);
        let start = self.evaluation(0, START, observer)?;
        if !self.prompts.is_empty() {
            observer.evaluated(&CurvePoint::of(0, &start, self.prompts, None, self.recipe.seed), is_new);
        }
        Ok(start)
    }

    /// The evaluation after the steps that are done, and its place on the curve, told to the observer.
    pub fn next(&mut self, start: &Evaluation, observer: &mut dyn Observer) -> Result<(Evaluation, CurvePoint), Error> {
        let step = self.state.step;
        let kind = if step == self.total { END } else { BETWEEN };
        let is_new = !self.journal.contains(step, kind);
        let evaluation = self.evaluation(step, kind, observer)?;
        let point = self.point(step, start, &evaluation)?;
        if !self.prompts.is_empty() {
            observer.evaluated(&point, is_new);
        }
        Ok((evaluation, point))
    }

    fn evaluation(&mut self, step: u64, kind: &str, observer: &mut dyn Observer) -> Result<Evaluation, Error> {
        let evaluator = Evaluator {
            prompts: self.prompts,
            tokenizer: self.tokenizer,
            generate: self.recipe.generate_config(self.tokenizer, self.recipe.eval_temperature),
            seed: self.recipe.seed,
        };
        let (annotator, base, initial) = (&mut *self.annotator, self.base, self.initial);
        let (dir, ensemble) = (self.dir, &self.state.ensemble);
        let prompts: Vec<&TrainPrompt> = self.prompts.iter().map(|eval| &eval.prompt).collect();
        self.journal.once(step, kind, || {
            let start = initial.model(base)?;
            let evaluated = match step {
                0 => evaluator.evaluate(&start, None, annotator, observer),
                _ => evaluator.evaluate(&ensemble.policy()?.policy.model(base)?, Some(&start), annotator, observer),
            };
            evaluated.map_err(|error| traced(error, dir, step, &prompts))
        })
    }

    /// What an evaluation came to, wins over the start included.
    fn point(&mut self, step: u64, start: &Evaluation, now: &Evaluation) -> Result<CurvePoint, Error> {
        let wins: Vec<Option<f64>> = match (&now.scores, &start.scores) {
            (Some(ours), Some(theirs)) => wins_by_score(ours, theirs),
            _ => {
                let prompts = texts(self.prompts);
                let (old, new): (Vec<&str>, Vec<&str>) = (start.texts().collect(), now.texts().collect());
                self.journal.once(step, "eval/wins", || win_rate(&mut *self.annotator, &prompts, &new, &old))?
            }
        };
        Ok(CurvePoint::of(step, now, self.prompts, Some((&wins, start)), self.recipe.seed))
    }

    /// All evaluations of the run, in order, the last one being `end`.
    pub fn curve(
        &mut self,
        start: &Evaluation,
        end: CurvePoint,
        observer: &mut dyn Observer,
    ) -> Result<Vec<CurvePoint>, Error> {
        let mut curve = vec![CurvePoint::of(0, start, self.prompts, None, self.recipe.seed)];
        for step in 1..self.total {
            if self.recipe.evaluates_at(step, self.total, &self.schedule) {
                // Recorded when it was made.
                let between = self.evaluation(step, BETWEEN, observer)?;
                curve.push(self.point(step, start, &between)?);
            }
        }
        curve.push(end);
        Ok(curve)
    }

    /// What the run came to, which is then marked as finished; the policy lies in `output`.
    pub fn report(
        &self,
        [before, after]: [&Evaluation; 2],
        curve: Vec<CurvePoint>,
        output: String,
    ) -> Result<Report, Error> {
        let samples = SamplePair::first(&texts(self.prompts), before, after);
        let report = Report::of(&self.state.counters, &*self.annotator, self.prompts.len(), curve, samples, output);
        self.dir.mark_finished(&serde_json::to_value(&report).map_err(|e| Error::Data(e.to_string()))?)?;
        Ok(report)
    }
}

fn texts(prompts: &[EvalPrompt]) -> Vec<&str> {
    prompts.iter().map(|eval| eval.prompt.text.as_str()).collect()
}
