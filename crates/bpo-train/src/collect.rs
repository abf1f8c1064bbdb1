//! Sampling and judging: what is written to the journal before it trains.
use std::collections::HashSet;

use bpo_annotate::{Annotator, Comparison, Item, Judgement, Verdict};
use bpo_data::Tokenizer;
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
    for (index, chunk) in prompts.chunks(batch).enumerate() {
        let requests: Vec<Request<'_>> = chunk.iter().map(|prompt| request(prompt, streams)).collect();
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

fn request(prompt: &TrainPrompt, streams: Streams) -> Request<'_> {
    let key = |slot| StreamKey { seed: streams.seed, step: streams.step, prompt: prompt.id as u64, slot };
    Request { prompt: &prompt.ids, samples: (0..streams.slots).map(key).collect() }
}

/// Asks the annotator about the first two completions of every prompt.
pub(crate) fn judge(
    annotator: &mut dyn Annotator,
    prompts: &[&TrainPrompt],
    drawn: &[Drawn],
    missing_eos_penalty: Option<f64>,
) -> Result<Vec<Judgement>, Error> {
    let mut comparisons = Vec::with_capacity(drawn.len());
    for (prompt, drawn) in prompts.iter().zip(drawn) {
        let [first, second] = pair(drawn)?;
        comparisons.push(Comparison {
            prompt: prompt.text.clone(),
            first: first.text.clone(),
            second: second.text.clone(),
        });
    }
    let judgements = annotator.compare(&comparisons)?;
    let Some(penalty) = missing_eos_penalty else { return Ok(judgements) };
    judgements.into_iter().zip(drawn).map(|(judgement, drawn)| penalised(judgement, drawn, penalty)).collect()
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

/// Explicit preferences only; everything else is counted by reason.
pub(crate) fn pairs<'a>(
    prompts: &[&'a TrainPrompt],
    drawn: &'a [Drawn],
    judgements: &[Judgement],
) -> Result<(Vec<Pair<'a>>, Vec<String>), Error> {
    let (mut pairs, mut dropped) = (Vec::new(), Vec::new());
    for ((prompt, drawn), judgement) in prompts.iter().zip(drawn).zip(judgements) {
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

/// Scores of responses, where the annotator has such.
pub(crate) fn scores(annotator: &mut dyn Annotator, items: &[Item]) -> Result<Option<Vec<f64>>, Error> {
    Ok(annotator.score(items).transpose()?)
}

/// Share of different texts.
pub(crate) fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    let texts: Vec<&str> = texts.collect();
    let different: HashSet<&str> = texts.iter().copied().collect();
    if texts.is_empty() { 0.0 } else { different.len() as f64 / texts.len() as f64 }
}
