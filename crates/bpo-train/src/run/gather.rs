//! Collecting a step's pairs: sampling and judging, each recorded before it trains.
use bpo_sampler::{GenerateConfig, MemberRanks, PairSelection, StreamKey};

use super::Run;
use crate::{
    Drawn, Error, Observer, Stage, TrainPrompt,
    choice::{Choice, Judge, Question},
    collect::{self, Collected, JUDGED, SAMPLED, Streams, candidates},
    step_metrics::Clock,
};

impl Run<'_> {
    /// Completions of a step's prompts and the verdicts on them: new ones, or (OPTune) those of an earlier step.
    pub(super) fn collected(
        &mut self,
        step: u64,
        prompts: &[TrainPrompt],
        clock: &mut Clock,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Collected>, Error> {
        let asked: Vec<bool> = prompts.iter().map(|prompt| self.replay.wants(prompt)).collect();
        let wanted: Vec<&TrainPrompt> = prompts.iter().zip(&asked).filter(|(_, a)| **a).map(|(p, _)| p).collect();
        let drawn = self.sampled(step, &wanted, observer)?;
        clock.lap("time/sample");
        let choices = self.judged(step, &wanted, &drawn, observer)?;
        clock.lap("time/judge");
        let fresh = drawn.into_iter().zip(choices).map(|(drawn, choice)| Collected { drawn, choice, at: step });
        Ok(self.replay.completed(prompts, &asked, fresh.collect()))
    }

    fn sampled(
        &mut self,
        step: u64,
        prompts: &[&TrainPrompt],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Drawn>, Error> {
        let recipe = self.recipe;
        if recipe.pairs.is_some() && recipe.selm_alpha.is_none() {
            return Ok(prompts.iter().map(|prompt| Drawn { prompt: prompt.id, samples: Vec::new() }).collect());
        }
        let slots = if recipe.pairs.is_some() { 0 } else { recipe.samples_per_prompt as u64 };
        let (greedy, config) = (self.generate_config(0.0), self.generate_config(recipe.temperature));
        let (behaviour, base, tokenizer) = (&self.state.behaviour.policy, &self.base, &self.tokenizer);
        let streams = |slots| Streams { seed: recipe.seed, step, slots };
        self.journal.once(step, SAMPLED, || {
            let policy = behaviour.model(base)?;
            let mut draw = |config: &GenerateConfig, slots| {
                let how = (config, streams(slots));
                collect::sample(&policy, tokenizer, prompts, how, (Stage::Sample, &mut *observer))
            };
            let mut drawn = if slots > 0 { draw(&config, slots)? } else { Vec::new() };
            if recipe.selm_alpha.is_some() {
                drawn = collect::joined(draw(&greedy, 1)?, drawn);
            }
            Ok(drawn)
        })
    }

    fn judged(
        &mut self,
        step: u64,
        prompts: &[&TrainPrompt],
        drawn: &[Drawn],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Choice>, Error> {
        let recipe = self.recipe;
        if recipe.pairs.is_some() && recipe.selm_alpha.is_none() {
            return Ok(vec![Choice::given(); drawn.len()]);
        }
        let selection = match recipe.selm_alpha {
            Some(_) => PairSelection::BestWorst,
            None => recipe.pair_selection,
        };
        let (annotator, quota, ensemble, base) =
            (&mut self.annotator, &mut self.quota, &self.state.ensemble, &self.base);
        let pad = self.tokenizer.pad_id().unwrap_or(0);
        let mut is_new = false;
        let choices: Result<Vec<Choice>, Error> = self.journal.once(step, JUDGED, || {
            is_new = true;
            observer.begin(Stage::Judge, drawn.len() as u64);
            let members = match selection.needs_members() {
                true => ensemble.rewards(base, prompts, drawn, recipe.beta, pad)?.into_iter().map(Some).collect(),
                false => vec![None; drawn.len()],
            };
            let mut questions = Vec::with_capacity(drawn.len());
            for ((prompt, drawn), rewards) in prompts.iter().zip(drawn).zip(members) {
                questions.push(Question {
                    prompt,
                    candidates: candidates(prompt, drawn),
                    members: rewards.map(|rewards| MemberRanks::new(&rewards, recipe.ucb_gamma)).transpose()?,
                    key: StreamKey { seed: recipe.seed, step, prompt: prompt.id as u64, slot: 0 },
                });
            }
            let mut judge = Judge {
                annotator: annotator.as_mut(),
                selection,
                ties: recipe.ties,
                missing_eos_penalty: recipe.missing_eos_penalty,
            };
            let choices = judge.judge(&questions, observer)?;
            observer.end();
            collect::count(quota, &choices)?;
            Ok(choices)
        });
        let choices = choices?;
        if !is_new {
            collect::count(&mut self.quota, &choices)?;
        }
        Ok(choices)
    }
}
