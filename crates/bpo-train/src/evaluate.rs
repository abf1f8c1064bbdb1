//! Held-out prompts: responses, scores, win rates, KL to the start.
use bpo_annotate::{Annotator, Comparison, Item, Verdict};
use bpo_data::{Group, Layout, Tokenizer, packed};
use bpo_model::Decoder;
use bpo_sampler::GenerateConfig;
use serde::{Deserialize, Serialize};

use crate::{
    Drawn, Error, EvalPrompt, Interval, Observer, Stage, TrainPrompt, bootstrap_mean,
    collect::{self, Streams},
    length_controlled_win_rate, sized_wins, token_logps,
};

/// What one policy did on the held-out prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// One response per prompt.
    pub responses: Vec<Drawn>,
    /// The annotator's score of each, where it gives scores; `None` where it abstained.
    pub scores: Option<Vec<Option<f64>>>,
    /// Wins against the reference texts, where there are such.
    pub reference_wins: Option<Vec<Option<f64>>>,
    /// Estimate of KL(policy ‖ start), nats per response; only at temperature 1 without filters.
    pub kl: Option<f64>,
    /// Log-probs of the responses' tokens under the start, nats, where `kl` is known: `[responses][tokens]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_logps: Option<Vec<Vec<f32>>>,
}

/// What an annotator said of one response to each prompt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judged {
    /// As [`Evaluation::scores`].
    pub scores: Option<Vec<Option<f64>>>,
    /// As [`Evaluation::reference_wins`].
    pub reference_wins: Option<Vec<Option<f64>>>,
}

impl Evaluation {
    /// Texts of the responses.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.responses.iter().flat_map(|drawn| drawn.samples.first()).map(|sample| sample.text.as_str())
    }

    /// Mean score with its interval.
    pub fn mean_score(&self, seed: u64) -> Option<Interval> {
        let scores: Vec<f64> = self.scores.iter().flatten().flatten().copied().collect();
        bootstrap_mean(&scores, seed)
    }

    /// Win rate against the references with its interval; ties count half.
    pub fn reference_win_rate(&self, seed: u64) -> Option<Interval> {
        let wins: Vec<f64> = self.reference_wins.iter().flatten().flatten().copied().collect();
        bootstrap_mean(&wins, seed)
    }

    /// [`Evaluation::reference_win_rate`] at equal lengths; `prompts` are those that were answered.
    pub fn length_controlled_reference_win_rate(&self, prompts: &[EvalPrompt], seed: u64) -> Option<Interval> {
        let wins = self.reference_wins.as_ref()?;
        let references = prompts.iter().map(|eval| eval.reference.as_deref().unwrap_or_default());
        length_controlled_win_rate(&sized_wins(wins, self.texts(), references), seed)
    }

    /// Mean response length in tokens.
    pub fn mean_length(&self) -> f64 {
        let lengths: Vec<f64> =
            self.responses.iter().flat_map(|drawn| &drawn.samples).map(|s| s.tokens.len() as f64).collect();
        lengths.iter().sum::<f64>() / lengths.len().max(1) as f64
    }

    /// Share of different responses: 1 is full variety, near 0 is collapse.
    pub fn distinct(&self) -> f64 {
        collect::distinct(self.texts())
    }

    /// Share of responses that ended with EOS.
    pub fn finished(&self) -> f64 {
        let samples = || self.responses.iter().flat_map(|drawn| &drawn.samples);
        samples().filter(|sample| sample.eos).count() as f64 / samples().count().max(1) as f64
    }
}

/// Samples and judges held-out prompts, always from the same random streams, so that two policies
/// differ by their weights alone.
pub struct Evaluator<'a> {
    /// Held-out prompts.
    pub prompts: &'a [EvalPrompt],
    /// Text ↔ ids.
    pub tokenizer: &'a Tokenizer,
    /// When and how to sample.
    pub generate: GenerateConfig,
    /// Decides the streams.
    pub seed: u64,
}

/// Streams of evaluation are those of no training step.
const EVALUATION_STEP: u64 = u64::MAX;

impl Evaluator<'_> {
    /// Evaluates `policy`; with `start`, KL to it is estimated.
    ///
    /// # Errors
    /// From sampling, scoring and the annotator.
    pub fn evaluate(
        &self,
        policy: &Decoder,
        start: Option<&Decoder>,
        annotator: &mut dyn Annotator,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation, Error> {
        let responses = self.respond(policy, observer)?;
        let start_logps = match start {
            Some(start) if self.estimates_kl() => Some(self.start_logps(start, &responses)?),
            _ => None,
        };
        let texts: Vec<&str> =
            responses.iter().filter_map(|drawn| Some(drawn.samples.first()?.text.as_str())).collect();
        let Judged { scores, reference_wins } = judge(self.prompts, &texts, annotator)?;
        let kl = start_logps.as_ref().map(|start| mean(&log_ratios(&responses, start)));
        Ok(Evaluation { responses, scores, reference_wins, kl, start_logps })
    }

    /// One response to each prompt.
    ///
    /// # Errors
    /// From sampling.
    pub fn respond(&self, policy: &Decoder, observer: &mut dyn Observer) -> Result<Vec<Drawn>, Error> {
        let prompts: Vec<&TrainPrompt> = self.prompts.iter().map(|eval| &eval.prompt).collect();
        let streams = Streams { seed: self.seed, step: EVALUATION_STEP, slots: 1 };
        collect::sample(policy, self.tokenizer, &prompts, (&self.generate, streams), (Stage::Evaluate, observer))
    }

    /// Whether log-ratios of responses estimate a KL: they do where tokens are drawn from the policy itself, which a
    /// temperature or a filter changes.
    pub fn estimates_kl(&self) -> bool {
        let is_ancestral =
            self.generate.sampling == bpo_sampler::Sampling::default() && self.generate.min_new_tokens == 0;
        is_ancestral && !self.prompts.is_empty()
    }

    /// The log-probs of the tokens of `responses` under `start`, nats, `[responses][tokens]`.
    ///
    /// # Errors
    /// From scoring.
    pub fn start_logps(&self, start: &Decoder, responses: &[Drawn]) -> Result<Vec<Vec<f32>>, Error> {
        let (pad, batch) = (self.tokenizer.pad_id().unwrap_or(0), self.generate.batch_size);
        let mut logps = Vec::with_capacity(responses.len());
        for (prompts, responses) in self.prompts.chunks(batch).zip(responses.chunks(batch)) {
            let groups: Vec<Group<'_>> = prompts
                .iter()
                .zip(responses)
                .map(|(eval, drawn)| Group {
                    prompt: &eval.prompt.ids,
                    completions: drawn.samples.iter().map(|s| s.tokens.as_slice()).collect(),
                })
                .collect();
            logps.extend(token_logps(start, &pack(start, &groups, pad)?)?);
        }
        Ok(logps)
    }
}

/// Σ log π − Σ log π_start of each response, nats; their mean estimates the KL.
pub fn log_ratios(responses: &[Drawn], start_logps: &[Vec<f32>]) -> Vec<f64> {
    let sum = |logps: &[f32]| logps.iter().map(|&logp| f64::from(logp)).sum::<f64>();
    let samples = responses.iter().flat_map(|drawn| &drawn.samples);
    samples.zip(start_logps).map(|(sample, start)| sum(&sample.logps) - sum(start)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Scores of `texts`, one for each prompt, and their wins over the reference texts.
///
/// # Errors
/// From the annotator.
pub fn judge(prompts: &[EvalPrompt], texts: &[&str], annotator: &mut dyn Annotator) -> Result<Judged, Error> {
    let items: Vec<Item> =
        prompts.iter().zip(texts).map(|(eval, text)| Item::new(eval.prompt.text.as_str(), *text)).collect();
    let scores = scores(annotator, &items)?;
    let reference_wins = reference_wins(prompts, texts, scores.as_deref(), annotator)?;
    Ok(Judged { scores, reference_wins })
}

/// Wins over the references, `None` for a prompt without one; nothing when no prompt has any.
fn reference_wins(
    prompts: &[EvalPrompt],
    texts: &[&str],
    ours: Option<&[Option<f64>]>,
    annotator: &mut dyn Annotator,
) -> Result<Option<Vec<Option<f64>>>, Error> {
    let with: Vec<usize> = (0..prompts.len()).filter(|&i| prompts[i].reference.is_some()).collect();
    if with.is_empty() {
        return Ok(None);
    }
    let references: Vec<&str> = prompts.iter().filter_map(|eval| eval.reference.as_deref()).collect();
    let asked: Vec<&str> = with.iter().map(|&i| prompts[i].prompt.text.as_str()).collect();
    let items: Vec<Item> = asked.iter().zip(&references).map(|(prompt, text)| Item::new(*prompt, *text)).collect();
    let won = match (ours, scores(annotator, &items)?) {
        (Some(ours), Some(theirs)) => {
            let ours: Vec<Option<f64>> = with.iter().map(|&i| ours[i]).collect();
            wins_by_score(&ours, &theirs)
        }
        _ => {
            let texts: Vec<&str> = with.iter().map(|&i| texts[i]).collect();
            win_rate(annotator, &asked, &texts, &references)?
        }
    };
    let mut wins = vec![None; prompts.len()];
    for (&index, won) in with.iter().zip(won) {
        wins[index] = won;
    }
    Ok(Some(wins))
}

/// Scores where the annotator has such; an abstention is `None`.
fn scores(annotator: &mut dyn Annotator, items: &[Item]) -> Result<Option<Vec<Option<f64>>>, Error> {
    let scores = annotator.score(items).transpose()?;
    Ok(scores.map(|scores| scores.into_iter().map(|score| score.is_finite().then_some(score)).collect()))
}

/// Wins where both sides have been scored already: no text is asked about twice.
pub fn wins_by_score(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Vec<Option<f64>> {
    let win = |(ours, theirs): (&Option<f64>, &Option<f64>)| win(&Verdict::of_scores((*ours)?, (*theirs)?));
    ours.iter().zip(theirs).map(win).collect()
}

/// 1 for the first, 0 for the second, ½ for a tie.
fn win(verdict: &Verdict) -> Option<f64> {
    match verdict {
        Verdict::First => Some(1.0),
        Verdict::Second => Some(0.0),
        Verdict::Tie => Some(0.5),
        Verdict::Abstain(_) => None,
    }
}

/// Groups in rows that waste as little as `model` can make of it: as long as the longest group, or longer where that
/// costs nothing.
pub(crate) fn pack(model: &Decoder, groups: &[Group<'_>], pad: u32) -> Result<Layout, Error> {
    let tokens = |group: &Group<'_>| group.prompt.len() + group.completions.iter().map(|c| c.len()).sum::<usize>();
    let longest = groups.iter().map(tokens).max().unwrap_or(1);
    Ok(packed(groups, pad, model.row_length(longest))?)
}

/// 1 where `ours` is preferred, 0 where `theirs` is, ½ for a tie, `None` for an abstention.
///
/// # Errors
/// From the annotator.
pub fn win_rate(
    annotator: &mut dyn Annotator,
    prompts: &[&str],
    ours: &[&str],
    theirs: &[&str],
) -> Result<Vec<Option<f64>>, Error> {
    let comparisons: Vec<Comparison> = prompts
        .iter()
        .zip(ours.iter().zip(theirs))
        .map(|(prompt, (ours, theirs))| Comparison {
            prompt: (*prompt).into(),
            first: (*ours).into(),
            second: (*theirs).into(),
        })
        .collect();
    let judgements = annotator.compare(&comparisons)?;
    Ok(judgements.iter().map(|judgement| win(&judgement.verdict)).collect())
}
