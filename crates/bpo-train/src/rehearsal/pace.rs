//! How long a run takes on this machine, found out on its own first prompts.
use std::time::{Duration, Instant};

use bpo_loss::Objective;
use bpo_sampler::{Completion, Generation, Request, StreamKey};

use super::Rehearsal;
use crate::{
    Error, Recipe, Reference, RefreshSchedule, Sample, TrainPrompt, Trainable,
    collect::Pair,
    token_logps,
    update::{Batch, Criterion, Losses},
};

/// Passes that are short are repeated for this part of the budget: one alone may have had the machine to itself.
const REPEATED: u32 = 5;

/// Seconds of the parts of a run, extrapolated from a part of its first step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// What is done once before the first step, sampling excepted.
    pub once: f64,
    /// Sampling a step's completions; 0 where the pairs are given.
    pub sample: f64,
    /// Scoring, backward and references of a step, all members.
    pub train: f64,
    /// One evaluation: sampling and KL.
    pub evaluate: f64,
    /// Evaluations of the run.
    pub evaluations: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Tokens of a step's pairs, prompts and completions.
    pub tokens: usize,
    /// Mean length of the completions that were sampled or given, in tokens.
    pub length: f64,
    /// Share of the first step's sampling that was done; completions that it did not end count with their longest.
    pub sampled: f64,
}

impl Pace {
    /// Seconds of the whole run, judging excepted.
    pub fn total(&self) -> f64 {
        self.once + self.steps as f64 * (self.sample + self.train) + self.evaluations as f64 * self.evaluate
    }

    pub(super) fn measured(of: &Rehearsal<'_>, budget: Duration) -> Result<Self, Error> {
        let recipe = of.recipe;
        let prompts = of.first_step()?;
        let prompts: Vec<&TrainPrompt> = prompts.iter().collect();
        let sampled = Sampled::of(of, &prompts, budget)?;
        let pairs = pairs(&prompts, &sampled);
        let micro = &pairs[..pairs.len().min(recipe.per_device_train_batch_size)];
        let trained = Trained::of(of, micro, budget)?;
        let tokens = pairs.iter().map(tokens).sum::<usize>();
        let lengths: Vec<usize> = pairs.iter().flat_map(Pair::samples).map(|sample| sample.tokens.len()).collect();
        let length = lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64;
        let recorded = recipe.reference == Reference::Behaviour && recipe.pairs.is_none();
        let passes =
            of.ensemble.members.len() as f64 * trained.backward + f64::from(u8::from(!recorded)) * trained.forward;
        let eval = of.prompts.eval.len();
        Ok(Self {
            once: 0.0,
            sample: sampled.seconds,
            train: passes * tokens as f64,
            evaluate: of.evaluation(&sampled, &trained, length),
            evaluations: if eval == 0 { 0 } else { 2 + between(recipe, of.total) },
            steps: of.total,
            tokens,
            length,
            sampled: sampled.share,
        })
    }
}

/// Evaluations between the first step and the last.
fn between(recipe: &Recipe, total: u64) -> u64 {
    let schedule = RefreshSchedule::new(recipe.collection_phases, total);
    (1..total).filter(|&step| recipe.evaluates_at(step, total, &schedule)).count() as u64
}

/// What sampling a step's completions gave.
struct Sampled {
    /// Seconds of the whole step's sampling.
    seconds: f64,
    /// Share of it that was done.
    share: f64,
    /// Seconds per completion.
    each: f64,
    /// Completions by prompt.
    drawn: Vec<Vec<Sample>>,
}

impl Sampled {
    fn of(of: &Rehearsal<'_>, prompts: &[&TrainPrompt], budget: Duration) -> Result<Self, Error> {
        let recipe = of.recipe;
        let slots = match recipe.pairs {
            Some(_) => 0,
            None => recipe.samples_per_prompt as u64,
        } + u64::from(recipe.selm_alpha.is_some());
        let given = || prompts.iter().map(|prompt| prompt.given.clone()).collect();
        if slots == 0 {
            return Ok(Self { seconds: 0.0, share: 1.0, each: of.one_by_one(budget)?, drawn: given() });
        }
        let (seconds, share, drawn) = of.sampled(prompts, slots, budget)?;
        let drawn = match recipe.pairs {
            Some(_) => given(),
            None => drawn,
        };
        Ok(Self { seconds, share, each: seconds / (prompts.len() as f64 * slots as f64), drawn })
    }
}

impl Rehearsal<'_> {
    /// Samples for about `budget`: seconds of all of it, the share that was done, the completions.
    pub(super) fn sampled(
        &self,
        prompts: &[&TrainPrompt],
        slots: u64,
        budget: Duration,
    ) -> Result<(f64, f64, Vec<Vec<Sample>>), Error> {
        let key =
            |prompt: &TrainPrompt, slot| StreamKey { seed: self.recipe.seed, step: 0, prompt: prompt.id as u64, slot };
        let requests: Vec<Request<'_>> = prompts
            .iter()
            .map(|prompt| Request { prompt: &prompt.ids, samples: (0..slots).map(|slot| key(prompt, slot)).collect() })
            .collect();
        let config = self.recipe.generate_config(&self.tokenizer, self.recipe.temperature);
        let policy = self.policy()?;
        let draw = || -> Result<_, Error> {
            let started = Instant::now();
            let policy = policy.for_sampling();
            let mut generation = Generation::new(&policy, &requests, &config)?;
            let total = generation.unfinished() * config.max_new_tokens;
            while started.elapsed() < budget && generation.advance()? {}
            let done = generation.unfinished() == 0;
            let share = if done { 1.0 } else { generation.settled() as f64 / total.max(1) as f64 };
            let completions: Vec<Completion> = std::iter::from_fn(|| generation.next_finished()).collect();
            Ok((started.elapsed().as_secs_f64() / share.max(f64::MIN_POSITIVE), share, completions))
        };
        let started = Instant::now();
        let (mut seconds, share, completions) = draw()?;
        // The first pass of a program pays for fresh memory and cold caches.
        let mut passes = Vec::new();
        while share == 1.0 && started.elapsed() < budget / REPEATED {
            passes.push(draw()?.0);
        }
        if !passes.is_empty() {
            seconds = passes.iter().sum::<f64>() / passes.len() as f64;
        }
        let mut completions = completions.into_iter();
        let sample = |tokens: Vec<u32>| Sample {
            logps: vec![0.0; tokens.len()],
            tokens,
            eos: false,
            text: String::new(),
            origin: None,
        };
        // Where the budget ended, one of the longest stands for what would have come.
        let filler = || sample(vec![self.tokenizer.pad_id().unwrap_or(0); config.max_new_tokens]);
        let mut next = || completions.next().map_or_else(filler, |completion| sample(completion.tokens));
        let drawn = prompts.iter().map(|_| (0..slots).map(|_| next()).collect()).collect();
        Ok((seconds, share, drawn))
    }

    /// Seconds per completion of held-out prompts, where training samples nothing.
    fn one_by_one(&self, budget: Duration) -> Result<f64, Error> {
        let prompts: Vec<&TrainPrompt> =
            self.prompts.eval.iter().take(self.recipe.per_device_eval_batch_size).map(|eval| &eval.prompt).collect();
        match prompts.len() {
            0 => Ok(0.0),
            count => Ok(self.sampled(&prompts, 1, budget)?.0 / count as f64),
        }
    }

    /// Seconds of one evaluation.
    fn evaluation(&self, sampled: &Sampled, trained: &Trained, length: f64) -> f64 {
        let each = |prompt: &TrainPrompt| sampled.each + trained.forward * (prompt.ids.len() as f64 + length);
        self.prompts.eval.iter().map(|eval| each(&eval.prompt)).sum()
    }
}

/// The first two completions of every prompt, as if one of them had won.
fn pairs<'p>(prompts: &[&'p TrainPrompt], sampled: &'p Sampled) -> Vec<Pair<'p>> {
    let pair = |(prompt, drawn): (&&'p TrainPrompt, &'p Vec<Sample>)| match drawn.as_slice() {
        [chosen, rejected, ..] => Some(Pair { prompt, chosen, rejected, optimistic: None, gap: None, at: 0 }),
        _ => None,
    };
    prompts.iter().zip(&sampled.drawn).filter_map(pair).collect()
}

fn tokens(pair: &Pair<'_>) -> usize {
    pair.prompt.ids.len() + pair.samples().map(|sample| sample.tokens.len()).sum::<usize>()
}

/// Seconds per token of scoring.
struct Trained {
    /// With gradients, one member.
    backward: f64,
    /// Without.
    forward: f64,
}

impl Trained {
    /// One pair first; all of a micro-batch if that fits the budget.
    fn of(of: &Rehearsal<'_>, micro: &[Pair<'_>], budget: Duration) -> Result<Self, Error> {
        let policy = &of.ensemble.members[0].policy;
        let (first, took) = Self::on(of, policy, &micro[..micro.len().min(1)])?;
        if micro.len() < 2 || took * micro.len() as u32 > budget {
            return Ok(first);
        }
        let (started, mut passes) = (Instant::now(), Vec::new());
        while passes.is_empty() || started.elapsed() < budget / REPEATED {
            passes.push(Self::on(of, policy, micro)?.0);
        }
        let mean = |of: fn(&Self) -> f64| passes.iter().map(of).sum::<f64>() / passes.len() as f64;
        Ok(Self { backward: mean(|pass| pass.backward), forward: mean(|pass| pass.forward) })
    }

    fn on(of: &Rehearsal<'_>, policy: &Trainable, pairs: &[Pair<'_>]) -> Result<(Self, Duration), Error> {
        let started = Instant::now();
        let batch =
            Batch::new(pairs, of.tokenizer.pad_id().unwrap_or(0), true, &of.base, || of.policy().map_err(Error::from))?;
        let (_, forward) = timed(|| token_logps(&of.policy()?, &batch.layout))?;
        let prompts = || pairs.iter().map(|pair| pair.prompt.id).collect();
        let check = |_: &Batch<'_>, scored: &crate::Scored, losses: &Losses| match losses.are_finite()
            && scored.sums.iter().all(|sum| sum.is_finite())
        {
            true => Ok(()),
            false => Err(Error::NonFinite { step: 0, what: "a log-prob".into(), prompts: prompts(), dump: None }),
        };
        // The losses of bonuses and couplings need more than two completions of a pair, and cost no more.
        let (objective, use_weighting) = (Objective::default(), of.recipe.use_weighting);
        let criterion = Criterion { objective, use_weighting, ld_alpha: None, optune_beta2: None, selm_alpha: None };
        let batches = [batch];
        let (_, backward) = timed(|| criterion.backward(policy, &of.base, &batches, |_| of.recipe.seed, check))?;
        let tokens = pairs.iter().map(tokens).sum::<usize>().max(1) as f64;
        let each = |time: Duration| time.as_secs_f64() / tokens;
        Ok((Self { backward: each(backward), forward: each(forward) }, started.elapsed()))
    }
}

pub(super) fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<(T, Duration), Error> {
    let started = Instant::now();
    let done = work()?;
    Ok((done, started.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CollectionPhases, EvalStrategy};

    #[test]
    fn evaluations_between_first_and_last_are_those_of_a_run() {
        let of = |eval_strategy, eval_steps| {
            let phases = CollectionPhases::Count(4);
            between(&Recipe { eval_strategy, eval_steps, collection_phases: phases, ..Recipe::default() }, 60)
        };
        assert_eq!(of(EvalStrategy::No, 0), 0);
        assert_eq!((of(EvalStrategy::Steps, 0), of(EvalStrategy::Steps, 20), of(EvalStrategy::Steps, 7)), (0, 2, 8));
        assert_eq!(of(EvalStrategy::Phase, 0), 3);
    }
}
