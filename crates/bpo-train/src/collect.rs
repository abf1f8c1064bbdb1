//! Sampling and judging: what is written to the journal before it trains.
use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use bpo_annotate::{AbstainQuota, Verdict};
use bpo_data::{Group, Tokenizer};
use bpo_model::Decoder;
use bpo_sampler::{Completion, FinishReason, GenerateConfig, Generation, Request, StreamKey};
use bpo_store::Journal;
use serde::{Deserialize, Serialize};

use crate::{Error, Observer, ShownPair, Stage, TrainPrompt, choice::Choice, score::sum};

/// One sampled completion as the journal keeps it: ids and the log-probs of the policy that drew them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Sampled ids, EOS included if sampled.
    pub tokens: Vec<u32>,
    /// Their untempered log-probs under the sampling policy; none of a completion that came with the data.
    pub logps: Vec<f32>,
    /// Whether it ended with EOS (else it was cut).
    pub eos: bool,
    /// Its text.
    pub text: String,
    /// How it came from a server, where one sampled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// How a completion came from a server.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The server gave no ids: its text was tokenised again.
    pub retokenised: bool,
    /// The log-probs were computed here, and are not the server's.
    pub rescored: bool,
    /// Mean absolute difference of the server's log-probs and ours, nats per token; where there are both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logp_gap: Option<f32>,
}

impl Sample {
    /// Σ log-probs, added in f64.
    pub fn logp(&self) -> f32 {
        sum(&self.logps)
    }
}

/// A prompt's completions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drawn {
    /// The prompt's id.
    pub prompt: usize,
    /// Its completions, one per slot.
    pub samples: Vec<Sample>,
}

/// Which random streams completions are drawn from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    pub seed: u64,
    pub step: u64,
    /// Completions per prompt.
    pub slots: u64,
}

/// Samples `streams.slots` completions per prompt from `policy`, in the form in which it samples fastest. Where that is
/// a copy of the weights, it is gone before activations for a backward pass need the memory.
pub(crate) fn sample(
    policy: &Decoder,
    tokenizer: &Tokenizer,
    prompts: &[&TrainPrompt],
    (config, streams): (&GenerateConfig, Streams),
    (stage, observer): (Stage, &mut dyn Observer),
) -> Result<Vec<Drawn>, Error> {
    let mut seen = HashMap::new();
    let requests: Vec<Request<'_>> = prompts.iter().map(|prompt| request(prompt, streams, &mut seen)).collect();
    let policy = policy.for_sampling();
    let mut generation = Generation::new(&policy, &requests, config)?;
    observer.begin(stage, (generation.unfinished() * config.max_new_tokens) as u64);
    while generation.advance()? {
        if stage == Stage::Evaluate && observer.interrupted() {
            return Err(Error::Interrupted);
        }
        observer.advance(generation.settled() as u64);
    }
    observer.end();
    let mut sample = || -> Option<Result<Sample, Error>> {
        let Completion { tokens, logps, finish } = generation.next_finished()?;
        let text = tokenizer.decode(&tokens).map_err(Error::from);
        Some(text.map(|text| Sample { text, eos: finish == FinishReason::Eos, tokens, logps, origin: None }))
    };
    let drawn = |prompt: &&TrainPrompt| {
        let samples = (0..streams.slots).map_while(|_| sample()).collect::<Result<Vec<Sample>, Error>>()?;
        Ok(Drawn { prompt: prompt.id, samples })
    };
    prompts.iter().map(drawn).collect()
}

/// A prompt that comes again in the same step gets the slots behind those it has had.
pub(crate) fn request<'p>(prompt: &'p TrainPrompt, streams: Streams, seen: &mut HashMap<usize, u64>) -> Request<'p> {
    let first = seen.entry(prompt.id).or_default();
    let key = |slot| StreamKey { seed: streams.seed, step: streams.step, prompt: prompt.id as u64, slot };
    let samples = (*first..*first + streams.slots).map(key).collect();
    *first += streams.slots;
    Request { prompt: &prompt.ids, samples }
}

/// What the journal calls a part of a step's verdicts.
pub(crate) fn judged_part(part: usize) -> String {
    if part == 0 { "judged".to_owned() } else { format!("judged/{part}") }
}

/// Refuses a journal that ends before the checkpoint of `step`: what was asked is gone, and would be asked again.
///
/// # Errors
/// [`Error::JournalEnds`].
pub(crate) fn check_reach(journal: &Journal, step: u64, run: &Path, samples: bool) -> Result<(), Error> {
    let has_all = match step.checked_sub(1) {
        None => true,
        Some(last) if samples => journal.contains(last, SAMPLED) && journal.contains(last, &judged_part(0)),
        Some(_) => !journal.is_empty(),
    };
    if has_all { Ok(()) } else { Err(Error::JournalEnds { path: run.join("journal.bin"), step }) }
}

/// All verdicts of a step that has been judged, and `None` of any other.
///
/// # Errors
/// From the journal.
pub(crate) fn recorded_choices(journal: &mut Journal, step: u64) -> Result<Option<Vec<Choice>>, Error> {
    let mut choices = None;
    for part in 0.. {
        let Some(recorded) = journal.get(step, &judged_part(part))? else { break };
        let judged: Vec<Choice> = serde_json::from_slice(&recorded).map_err(|e| Error::Data(e.to_string()))?;
        choices.get_or_insert_with(Vec::new).extend(judged);
    }
    Ok(choices)
}

/// What it calls a step's completions.
pub(crate) const SAMPLED: &str = "sampled";

/// The quota as the steps before `step` left it, read back from their journal.
///
/// # Errors
/// From the journal; [`Error::Abstentions`] where it was exceeded then.
pub(crate) fn restored_quota(journal: &mut Journal, step: u64) -> Result<AbstainQuota, Error> {
    let (mut quota, mut batches, mut judged) = (AbstainQuota::default(), Vec::new(), 0);
    for step in (0..step).rev() {
        let Some(choices) = recorded_choices(journal, step)? else { break };
        judged += choices.len();
        batches.push(choices);
        if judged >= AbstainQuota::WINDOW {
            break;
        }
    }
    for choices in batches.iter().rev() {
        count(&mut quota, choices)?;
    }
    Ok(quota)
}

/// Counts a batch.
///
/// # Errors
/// [`Error::Abstentions`] when too many of the last questions have no verdict.
pub(crate) fn count(quota: &mut AbstainQuota, choices: &[Choice]) -> Result<(), Error> {
    let mut last = None;
    for choice in choices {
        if let Verdict::Abstain(reason) = &choice.verdict {
            last = Some(reason.to_string());
        }
        quota.count(matches!(choice.verdict, Verdict::Abstain(_)));
    }
    match (last, quota.exceeded()) {
        (Some(reason), Some((abstained, judged))) => Err(Error::Abstentions { abstained, judged, reason }),
        _ => Ok(()),
    }
}

/// The completions of `second` behind those of `first`, prompt by prompt; `second` may be empty.
pub(crate) fn joined(mut first: Vec<Drawn>, second: Vec<Drawn>) -> Vec<Drawn> {
    for (drawn, more) in first.iter_mut().zip(second) {
        drawn.samples.extend(more.samples);
    }
    first
}

/// A prompt's completions and what was said about them.
#[derive(Debug, Clone)]
pub(crate) struct Collected {
    /// Completions the run sampled.
    pub drawn: Drawn,
    pub choice: Choice,
    /// The step that sampled them.
    pub at: u64,
}

/// All completions of a prompt: those sampled, then those given with it.
pub(crate) fn candidates<'a>(prompt: &'a TrainPrompt, drawn: &'a Drawn) -> Vec<&'a Sample> {
    drawn.samples.iter().chain(&prompt.given).collect()
}

/// A preference that trains.
#[derive(Debug, Clone)]
pub(crate) struct Pair<'a> {
    pub prompt: &'a TrainPrompt,
    pub chosen: &'a Sample,
    pub rejected: &'a Sample,
    /// SELM's greedy response; it may be one of the two.
    pub optimistic: Option<&'a Sample>,
    /// Score of the chosen minus that of the rejected one, where both have scores.
    pub gap: Option<f64>,
    /// The step that sampled it.
    pub at: u64,
}

impl<'a> Pair<'a> {
    /// The prompt with its chosen and its rejected completion, and the optimistic one where it is a third.
    pub fn group(&self) -> Group<'a> {
        let mut completions = vec![self.chosen.tokens.as_slice(), &self.rejected.tokens];
        completions.extend(self.third().map(|sample| sample.tokens.as_slice()));
        Group { prompt: &self.prompt.ids, completions }
    }

    /// The completions in the order of [`Pair::group`].
    pub fn samples(&self) -> impl Iterator<Item = &'a Sample> {
        [self.chosen, self.rejected].into_iter().chain(self.third())
    }

    /// As people read it.
    pub fn shown(&self) -> ShownPair<'a> {
        let [chosen, rejected] = [self.chosen, self.rejected].map(|sample| sample.text.as_str());
        ShownPair { prompt: &self.prompt.text, chosen, rejected, gap: self.gap }
    }

    /// Index of the optimistic response among [`Pair::samples`].
    pub fn optimistic_index(&self) -> Option<usize> {
        let optimistic = self.optimistic?;
        self.samples().position(|sample| std::ptr::eq(sample, optimistic))
    }

    fn third(&self) -> Option<&'a Sample> {
        self.optimistic.filter(|sample| !std::ptr::eq(*sample, self.chosen) && !std::ptr::eq(*sample, self.rejected))
    }
}

/// Explicit preferences only; everything else is counted by reason. With `optimistic`, the first sampled completion
/// is SELM's.
pub(crate) fn pairs<'a>(
    prompts: &'a [TrainPrompt],
    collected: &'a [Collected],
    optimistic: bool,
) -> Result<(Vec<Pair<'a>>, Vec<String>), Error> {
    let (mut pairs, mut dropped) = (Vec::new(), Vec::new());
    for (prompt, Collected { drawn, choice, at }) in prompts.iter().zip(collected) {
        if prompt.id != drawn.prompt {
            let (now, then) = (prompt.id, drawn.prompt);
            return Err(Error::Data(format!("the journal's completions are of prompt {then}, the step's of {now}")));
        }
        let (chosen, rejected) = match &choice.verdict {
            Verdict::First => (choice.pair[0], choice.pair[1]),
            Verdict::Second => (choice.pair[1], choice.pair[0]),
            Verdict::Tie => {
                dropped.push("tie".to_string());
                continue;
            }
            Verdict::Abstain(reason) => {
                dropped.push(reason.reason().to_string());
                continue;
            }
        };
        let samples = candidates(prompt, drawn);
        let (Some(&chosen_sample), Some(&rejected_sample)) = (samples.get(chosen), samples.get(rejected)) else {
            return Err(Error::Data(format!("prompt {} has no two completions", prompt.id)));
        };
        pairs.push(Pair {
            prompt,
            chosen: chosen_sample,
            rejected: rejected_sample,
            optimistic: drawn.samples.first().filter(|_| optimistic),
            gap: choice.score(chosen).zip(choice.score(rejected)).map(|(chosen, rejected)| chosen - rejected),
            at: *at,
        });
    }
    Ok((pairs, dropped))
}

/// Share of different texts.
pub(crate) fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    let texts: Vec<&str> = texts.collect();
    let different: HashSet<&str> = texts.iter().copied().collect();
    if texts.is_empty() { 0.0 } else { different.len() as f64 / texts.len() as f64 }
}
