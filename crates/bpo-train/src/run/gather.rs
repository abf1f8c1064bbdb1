//! Collecting a step's pairs: sampling and judging, each recorded before it trains.
use bpo_sampler::{GenerateConfig, MemberRanks, PairSelection, StreamKey};
use bpo_store::RunDir;

use super::Run;
use crate::{
    Drawn, Error, Observer, Recipe, Stage, TrainPrompt,
    choice::{Choice, Judge, QUESTIONS, Question},
    collect::{self, Collected, SAMPLED, Streams, candidates, judged_part},
    numerics::{self, not_finite},
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
        unless_interrupted(observer)?;
        let choices = self.judged(step, &wanted, &drawn, observer)?;
        clock.lap("time/judge");
        unless_interrupted(observer)?;
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
        if !recipe.records_steps() {
            return Ok(prompts.iter().map(|prompt| Drawn { prompt: prompt.id, samples: Vec::new() }).collect());
        }
        let slots = if recipe.pairs.is_some() { 0 } else { recipe.samples_per_prompt as u64 };
        let [greedy, config] =
            [0.0, recipe.temperature].map(|temperature| recipe.generate_config(&self.tokenizer, temperature));
        let (snapshot, base, tokenizer) = (&self.state.behaviour, &self.base, &self.tokenizer);
        let (behaviour, base_name, remote) = (&snapshot.policy, &self.base_name, &mut self.remote);
        let (dir, streams) = (self.dir, |slots| Streams { seed: recipe.seed, step, slots });
        self.journal.once(step, SAMPLED, || {
            let policy = behaviour.model(base)?;
            if let Some(remote) = remote.as_mut() {
                remote.follow(behaviour, snapshot.taken_at, base_name)?;
            }
            let mut draw = |config: &GenerateConfig, slots| {
                let how = (config, streams(slots));
                let drawn = match remote.as_mut() {
                    Some(remote) => remote.sample(&policy, tokenizer, prompts, how, (Stage::Sample, &mut *observer)),
                    None => collect::sample(&policy, tokenizer, prompts, how, (Stage::Sample, &mut *observer)),
                };
                drawn.map_err(|error| traced(error, dir, step, prompts))
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
        if !recipe.records_steps() {
            return Ok(vec![Choice::given(); drawn.len()]);
        }
        let selection = match recipe.selm_alpha {
            Some(_) => PairSelection::BestWorst,
            None => recipe.pair_selection,
        };
        let (annotator, quota, ensemble, base) =
            (&mut self.annotator, &mut self.quota, &self.state.ensemble, &self.base);
        let pad = self.tokenizer.pad_id().unwrap_or(0);
        let (dir, mut asked) = (self.dir, None);
        let mut choices: Vec<Choice> = Vec::with_capacity(drawn.len());
        // Recorded in parts: an annotator that fails, or a run that ends, loses no more than a part of a step.
        for (part, first) in (0..drawn.len().max(1)).step_by(QUESTIONS).enumerate() {
            let mut is_new = false;
            let judged: Result<Vec<Choice>, Error> = self.journal.once(step, &judged_part(part), || {
                is_new = true;
                let questions = match &mut asked {
                    Some(questions) => questions,
                    none => {
                        observer.begin(Stage::Judge, drawn.len() as u64);
                        let members = match selection.needs_members() {
                            true => ensemble.rewards(base, prompts, drawn, recipe.beta, pad)?,
                            false => Vec::new(),
                        };
                        if members.iter().flatten().flatten().any(|reward| !reward.is_finite()) {
                            let rows = numerics::of_prompts(prompts.iter().copied());
                            return Err(not_finite(dir, step, "a member's reward", rows));
                        }
                        none.insert(questions(recipe, step, prompts, drawn, members)?)
                    }
                };
                let questions = &questions[first..questions.len().min(first + QUESTIONS)];
                let mut judge = Judge {
                    annotator: annotator.as_mut(),
                    selection,
                    ties: recipe.ties,
                    missing_eos_penalty: recipe.missing_eos_penalty,
                };
                let judged = judge.judge(questions)?;
                collect::count(quota, &judged)?;
                Ok(judged)
            });
            let judged = judged?;
            if !is_new {
                collect::count(quota, &judged)?;
            }
            choices.extend(judged);
            if asked.is_some() {
                observer.advance(choices.len() as u64);
                if choices.len() < drawn.len() {
                    unless_interrupted(observer)?;
                }
            }
        }
        if asked.is_some() {
            observer.end();
        }
        Ok(choices)
    }
}

/// What is asked about a step's completions.
fn questions<'q>(
    recipe: &Recipe,
    step: u64,
    prompts: &[&'q TrainPrompt],
    drawn: &'q [Drawn],
    members: Vec<Vec<Vec<f64>>>,
) -> Result<Vec<Question<'q>>, Error> {
    let mut members = members.into_iter();
    let mut questions = Vec::with_capacity(drawn.len());
    for (&prompt, drawn) in prompts.iter().zip(drawn) {
        let rewards = members.next();
        questions.push(Question {
            prompt,
            candidates: candidates(prompt, drawn),
            members: rewards.map(|rewards| MemberRanks::new(&rewards, recipe.ucb_gamma)).transpose()?,
            key: StreamKey { seed: recipe.seed, step, prompt: prompt.id as u64, slot: 0 },
        });
    }
    Ok(questions)
}

/// The end of a run that is asked to stop, between two stages.
fn unless_interrupted(observer: &dyn Observer) -> Result<(), Error> {
    if observer.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Logits that are not finite, with the prompt that they followed.
pub(super) fn traced(error: Error, dir: &RunDir, step: u64, prompts: &[&TrainPrompt]) -> Error {
    match error {
        Error::Sampler(bpo_sampler::Error::NonFiniteLogits { prompt, position }) => {
            let what = format!("a logit after {position} sampled tokens");
            not_finite(dir, step, what, numerics::of_prompts(prompts.get(prompt).copied()))
        }
        other => other,
    }
}
