//! Evaluations along a run, its report, and what it leaves behind.
use bpo_sampler::GenerateConfig;

use super::{Run, gather::traced};
use crate::{
    CurvePoint, Error, Evaluation, Evaluator, Observer, Report, SamplePair, TrainPrompt,
    evaluate::{win_rate, wins_by_score},
    export::export,
};

/// What the journal calls evaluations: before the first step, after the last one, and those between them.
const START: &str = "eval/start";
const END: &str = "eval/end";
const BETWEEN: &str = "eval/between";

impl Run<'_> {
    pub(super) fn generate_config(&self, temperature: f64) -> GenerateConfig {
        GenerateConfig {
            max_new_tokens: self.recipe.max_new_tokens,
            min_new_tokens: self.recipe.min_new_tokens,
            batch_size: self.recipe.per_device_eval_batch_size,
            sampling: self.recipe.sampling(temperature),
            eos_ids: self.tokenizer.eos_ids().to_vec(),
            sampled_vocab: Some(self.tokenizer.vocab_size()),
        }
    }

    /// The evaluation of the start, told to the observer.
    pub(super) fn first_evaluation(&mut self, observer: &mut dyn Observer) -> Result<Evaluation, Error> {
        let is_new = !self.journal.contains(0, START);
        let start = self.evaluation(0, START, observer)?;
        if !self.eval.is_empty() {
            observer.evaluated(&CurvePoint::of(0, &start, &self.eval, None, self.recipe.seed), is_new);
        }
        Ok(start)
    }

    /// The evaluation after the steps that are done, and its place on the curve, told to the observer.
    pub(super) fn next_evaluation(
        &mut self,
        start: &Evaluation,
        observer: &mut dyn Observer,
    ) -> Result<(Evaluation, CurvePoint), Error> {
        let step = self.state.step;
        let kind = if step == self.total { END } else { BETWEEN };
        let is_new = !self.journal.contains(step, kind);
        let evaluation = self.evaluation(step, kind, observer)?;
        let point = self.point(step, start, &evaluation)?;
        if !self.eval.is_empty() {
            observer.evaluated(&point, is_new);
        }
        Ok((evaluation, point))
    }

    fn evaluation(&mut self, step: u64, kind: &str, observer: &mut dyn Observer) -> Result<Evaluation, Error> {
        let evaluator = Evaluator {
            prompts: &self.eval,
            tokenizer: &self.tokenizer,
            generate: self.generate_config(self.recipe.eval_temperature),
            seed: self.recipe.seed,
        };
        let (annotator, base, initial) = (&mut self.annotator, &self.base, &self.initial);
        let (dir, ensemble) = (self.dir, &self.state.ensemble);
        let prompts: Vec<&TrainPrompt> = self.eval.iter().map(|eval| &eval.prompt).collect();
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
                let prompts: Vec<&str> = self.eval.iter().map(|eval| eval.prompt.text.as_str()).collect();
                let (old, new): (Vec<&str>, Vec<&str>) = (start.texts().collect(), now.texts().collect());
                self.journal.once(step, "eval/wins", || win_rate(&mut self.annotator, &prompts, &new, &old))?
            }
        };
        Ok(CurvePoint::of(step, now, &self.eval, Some((&wins, start)), self.recipe.seed))
    }

    /// All evaluations of the run, in order, the last one being `end`.
    fn curve(
        &mut self,
        start: &Evaluation,
        end: CurvePoint,
        observer: &mut dyn Observer,
    ) -> Result<Vec<CurvePoint>, Error> {
        let mut curve = vec![CurvePoint::of(0, start, &self.eval, None, self.recipe.seed)];
        let steps = (1..self.total).filter(|&step| self.recipe.evaluates_at(step, self.total, &self.schedule));
        for step in steps.collect::<Vec<_>>() {
            // Recorded when it was made.
            let between = self.evaluation(step, BETWEEN, observer)?;
            curve.push(self.point(step, start, &between)?);
        }
        curve.push(end);
        Ok(curve)
    }

    pub(super) fn finish(
        &mut self,
        before: Evaluation,
        (after, end): (Evaluation, CurvePoint),
        observer: &mut dyn Observer,
    ) -> Result<Report, Error> {
        let (dir, curve) = (self.dir, self.curve(&before, end, observer)?);
        self.record_contrast(&before)?;
        let policy = self.state.ensemble.policy()?.policy;
        let output = export(dir, "", &policy, &self.base, &self.base_name, &self.companions)?;
        if self.state.ensemble.members.len() > 1 {
            for (index, member) in self.state.ensemble.members.iter().enumerate() {
                let folder = format!("members/{index}/");
                export(dir, &folder, &member.policy, &self.base, &self.base_name, &self.companions)?;
            }
        }
        let prompts: Vec<&str> = self.eval.iter().map(|eval| eval.prompt.text.as_str()).collect();
        let samples = SamplePair::first(&prompts, &before, &after);
        let report = Report::of(&self.state.counters, &self.annotator, self.eval.len(), curve, samples, output);
        let value = serde_json::to_value(&report).map_err(|e| Error::Data(e.to_string()))?;
        dir.mark_finished(&value)?;
        Ok(report)
    }
}
