//! Sampling and judging: what is written to the journal before it trains.
use std::collections::{HashMap, HashSet, VecDeque};

use bpo_annotate::{Annotator, Comparison, Judgement, Verdict};
use bpo_data::{Group, Tokenizer};
use bpo_model::Decoder;
use bpo_sampler::{FinishReason, GenerateConfig, Request, StreamKey, generate};
use serde::{Deserialize, Serialize};

use crate::{Error, Observer, Stage, TrainPrompt};

/// One sampled completion as the journal keeps it: ids and the log-probs of the policy that drew them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Sampled ids, EOS included if sampled.
    pub tokens: Vec<u32>,
    /// Their untempered log-probs under the sampling policy.
    pub logps: Vec<f32>,
    /// Whether it ended with EOS (else it was cut).
    pub eos: bool,
    /// Its text.
    pub text: String,
}

impl Sample {
    /// Σ log-probs, added in f64.
    pub fn logp(&self) -> f32 {
        self.logps.iter().map(|&logp| f64::from(logp)).sum::<f64>() as f32
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

/// Samples `streams.slots` completions per prompt from `policy` in batches of `batch` prompts.
pub(crate) fn sample(
    policy: &Decoder,
    tokenizer: &Tokenizer,
    prompts: &[&TrainPrompt],
    config: &GenerateConfig,
    (streams, batch): (Streams, usize),
    (stage, observer): (Stage, &mut dyn Observer),
) -> Result<Vec<Drawn>, Error> {
    let batches = prompts.len().div_ceil(batch).max(1);
    observer.begin(stage, (batches * config.max_new_tokens) as u64);
    let mut drawn = Vec::with_capacity(prompts.len());
    let mut seen = HashMap::new();
    for (index, chunk) in prompts.chunks(batch).enumerate() {
        let requests: Vec<Request<'_>> = chunk.iter().map(|prompt| request(prompt, streams, &mut seen)).collect();
        if stage == Stage::Evaluate && observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let mut tokens = index * config.max_new_tokens;
        let completions = generate(policy, &requests, config, |_| {
            tokens += 1;
            observer.advance(tokens as u64);
        })?;
        for (prompt, completions) in chunk.iter().zip(completions) {
            let samples: Result<Vec<Sample>, Error> = completions
                .into_iter()
                .map(|c| {
                    let text = tokenizer.decode(&c.tokens)?;
                    Ok(Sample { text, eos: c.finish == FinishReason::Eos, tokens: c.tokens, logps: c.logps })
                })
                .collect();
            drawn.push(Drawn { prompt: prompt.id, samples: samples? });
        }
    }
    observer.end();
    Ok(drawn)
}

/// A prompt that comes again in the same step gets the slots behind those it has had.
fn request<'p>(prompt: &'p TrainPrompt, streams: Streams, seen: &mut HashMap<usize, u64>) -> Request<'p> {
    let first = seen.entry(prompt.id).or_default();
    let key = |slot| StreamKey { seed: streams.seed, step: streams.step, prompt: prompt.id as u64, slot };
    let samples = (*first..*first + streams.slots).map(key).collect();
    *first += streams.slots;
    Request { prompt: &prompt.ids, samples }
}

/// Pairs asked about at once: progress can be shown in between.
const QUESTIONS: usize = 32;

/// Asks the annotator about the first two completions of every prompt.
pub(crate) fn judge(
    annotator: &mut dyn Annotator,
    prompts: &[&TrainPrompt],
    drawn: &[Drawn],
    missing_eos_penalty: Option<f64>,
    observer: &mut dyn Observer,
) -> Result<Vec<Judgement>, Error> {
    let mut judgements = Vec::with_capacity(drawn.len());
    for (prompts, drawn) in prompts.chunks(QUESTIONS).zip(drawn.chunks(QUESTIONS)) {
        let comparisons: Result<Vec<Comparison>, Error> = prompts
            .iter()
            .zip(drawn)
            .map(|(prompt, drawn)| {
                let [first, second] = pair(drawn)?;
                let [prompt, first, second] = [&prompt.text, &first.text, &second.text].map(Clone::clone);
                Ok(Comparison { prompt, first, second })
            })
            .collect();
        judgements.extend(annotator.compare(&comparisons?)?);
        observer.advance(judgements.len() as u64);
    }
    let Some(penalty) = missing_eos_penalty else { return Ok(judgements) };
    judgements.into_iter().zip(drawn).map(|(judgement, drawn)| penalised(judgement, drawn, penalty)).collect()
}

/// Watches how often the annotator abstains.
#[derive(Debug, Clone, Default)]
pub(crate) struct AbstainQuota(VecDeque<bool>);

impl AbstainQuota {
    /// Questions looked back on.
    const WINDOW: usize = 200;
    /// Questions before anything is concluded.
    const ENOUGH: usize = 20;
    /// Share of them that may go without a verdict.
    const SHARE: f64 = 0.1;

    /// Counts a batch.
    ///
    /// # Errors
    /// [`Error::Abstentions`] when too many of the last questions have no verdict.
    pub fn count(&mut self, judgements: &[Judgement]) -> Result<(), Error> {
        let mut last = None;
        for judgement in judgements {
            if let Verdict::Abstain(reason) = &judgement.verdict {
                last = Some(reason.to_string());
            }
            self.0.push_back(matches!(judgement.verdict, Verdict::Abstain(_)));
        }
        self.0.drain(..self.0.len().saturating_sub(Self::WINDOW));
        let (judged, abstained) = (self.0.len(), self.0.iter().filter(|abstained| **abstained).count());
        match last {
            Some(reason) if judged >= Self::ENOUGH && abstained as f64 > Self::SHARE * judged as f64 => {
                Err(Error::Abstentions { abstained, judged, reason })
            }
            _ => Ok(()),
        }
    }
}

/// TRL's `missing_eos_penalty`: subtracted from the score of a completion that was cut, before comparing.
fn penalised(judgement: Judgement, drawn: &Drawn, penalty: f64) -> Result<Judgement, Error> {
    match (judgement.scores, &judgement.verdict) {
        (Some([first, second]), _) => {
            let [a, b] = pair(drawn)?;
            let score = |score: f64, sample: &Sample| if sample.eos { score } else { score - penalty };
            Ok(Judgement::of_scores(score(first, a), score(second, b)))
        }
        (None, Verdict::First | Verdict::Second) => {
            Err(Error::Recipe("missing_eos_penalty needs an annotator that gives scores".into()))
        }
        (None, _) => Ok(judgement),
    }
}

fn pair(drawn: &Drawn) -> Result<[&Sample; 2], Error> {
    match drawn.samples.as_slice() {
        [first, second, ..] => Ok([first, second]),
        _ => Err(Error::Data(format!("prompt {} has no two completions", drawn.prompt))),
    }
}

/// A preference that trains.
#[derive(Debug, Clone)]
pub(crate) struct Pair<'a> {
    pub prompt: &'a TrainPrompt,
    pub chosen: &'a Sample,
    pub rejected: &'a Sample,
}

impl Pair<'_> {
    /// The prompt with its chosen and its rejected completion.
    pub fn group(&self) -> Group<'_> {
        Group { prompt: &self.prompt.ids, completions: vec![&self.chosen.tokens, &self.rejected.tokens] }
    }
}

/// Explicit preferences only; everything else is counted by reason.
pub(crate) fn pairs<'a>(
    prompts: &[&'a TrainPrompt],
    drawn: &'a [Drawn],
    judgements: &[Judgement],
) -> Result<(Vec<Pair<'a>>, Vec<String>), Error> {
    let (mut pairs, mut dropped) = (Vec::new(), Vec::new());
    for ((prompt, drawn), judgement) in prompts.iter().zip(drawn).zip(judgements) {
        if prompt.id != drawn.prompt {
            let (now, then) = (prompt.id, drawn.prompt);
            return Err(Error::Data(format!("the journal's completions are of prompt {then}, the step's of {now}")));
        }
        let [first, second] = pair(drawn)?;
        match &judgement.verdict {
            Verdict::First => pairs.push(Pair { prompt, chosen: first, rejected: second }),
            Verdict::Second => pairs.push(Pair { prompt, chosen: second, rejected: first }),
            Verdict::Tie => dropped.push("tie".to_string()),
            Verdict::Abstain(reason) => dropped.push(reason.reason().to_string()),
        }
    }
    Ok((pairs, dropped))
}

/// Share of different texts.
pub(crate) fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    let texts: Vec<&str> = texts.collect();
    let different: HashSet<&str> = texts.iter().copied().collect();
    if texts.is_empty() { 0.0 } else { different.len() as f64 / texts.len() as f64 }
}
