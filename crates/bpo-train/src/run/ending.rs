//! Evaluations along a run, its report, and what it leaves behind.
use bpo_sampler::GenerateConfig;

use super::{Run, gather::traced};
use crate::{
    CurvePoint, Error, Evaluation, Evaluator, Interval, Observer, Report, SamplePair, TrainPrompt, bootstrap_mean,
    evaluate::{win_rate, wins_by_score},
    export::export,
};

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

    /// Whether the policy is evaluated after `step` steps, between start and end.
    pub(super) fn is_evaluated(&self, step: u64) -> bool {
        let every = self.recipe.eval_steps;
        every > 0 && step > 0 && step < self.total && step.is_multiple_of(every)
    }

    pub(super) fn evaluation(
        &mut self,
        step: u64,
        kind: &str,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation, Error> {
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

    /// Wins of an evaluation over the start.
    fn wins(&mut self, step: u64, before: &Evaluation, after: &Evaluation) -> Result<Option<Interval>, Error> {
        let wins: Vec<Option<f64>> = match (&after.scores, &before.scores) {
            (Some(ours), Some(theirs)) => wins_by_score(ours, theirs),
            _ => {
                let prompts: Vec<&str> = self.eval.iter().map(|eval| eval.prompt.text.as_str()).collect();
                let (start, end): (Vec<&str>, Vec<&str>) = (before.texts().collect(), after.texts().collect());
                self.journal.once(step, "eval/wins", || win_rate(&mut self.annotator, &prompts, &end, &start))?
            }
        };
        Ok(bootstrap_mean(&wins.into_iter().flatten().collect::<Vec<_>>(), self.recipe.seed))
    }

    /// All evaluations of the run, in order.
    fn curve(
        &mut self,
        before: &Evaluation,
        after: &Evaluation,
        observer: &mut dyn Observer,
    ) -> Result<Vec<CurvePoint>, Error> {
        let seed = self.recipe.seed;
        let mut curve = vec![CurvePoint::of(0, before, None, seed)];
        for step in (1..self.total).filter(|&step| self.is_evaluated(step)).collect::<Vec<_>>() {
            // Recorded when it was made.
            let between = self.evaluation(step, "eval/between", observer)?;
            let wins = self.wins(step, before, &between)?;
            curve.push(CurvePoint::of(step, &between, wins, seed));
        }
        let wins = self.wins(self.total, before, after)?;
        curve.push(CurvePoint::of(self.total, after, wins, seed));
        Ok(curve)
    }

    pub(super) fn finish(
        &mut self,
        before: Evaluation,
        after: Evaluation,
        observer: &mut dyn Observer,
    ) -> Result<Report, Error> {
        let (dir, curve) = (self.dir, self.curve(&before, &after, observer)?);
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
