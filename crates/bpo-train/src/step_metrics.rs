//! The metrics of one step, under TRL's names.
use std::time::Instant;

use bpo_loss::PairMetrics;
use serde_json::{Map, Value, json};

use crate::{
    Origin, Sample, Scored,
    collect::{self, Collected, Pair},
    score::sum,
    update::Losses,
};

/// Sums over a step's micro-batches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trained {
    pairs: usize,
    sequences: usize,
    loss: f64,
    metrics: PairMetrics,
    kl: f64,
    entropy: f64,
    gap: Option<f64>,
    /// Sequences that `gap` is a sum over.
    compared: usize,
    /// β·ρ of every pair, by member.
    margins: Vec<Vec<f64>>,
    /// Global norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub rate: f64,
    /// Time of the update.
    pub optimizer_seconds: f64,
}

impl Trained {
    /// A step at learning rate `rate`.
    pub fn at(rate: f64) -> Self {
        Self { rate, ..Self::default() }
    }

    /// Adds what member `index` made of a micro-batch. `sampled` are the recorded Σ log-probs where the policy is
    /// the behaviour that drew them: they differ from the policy's by rounding.
    pub fn add(&mut self, index: usize, scored: &Scored, losses: &Losses, beta: f64, sampled: Option<&[f32]>) {
        let [chosen, rejected] = &losses.policy;
        let [ref_chosen, ref_rejected] = &losses.reference;
        self.metrics.add(&PairMetrics::of([chosen, rejected], [ref_chosen, ref_rejected], beta));
        self.loss += losses.total;
        self.pairs += chosen.len();
        if self.margins.len() <= index {
            self.margins.resize(index + 1, Vec::new());
        }
        self.margins[index].extend(losses.margins().map(|margin| beta * margin));
        if let Some(sampled) = sampled {
            let gap = scored.sums.iter().zip(sampled).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
            *self.gap.get_or_insert(0.0) += gap;
            self.compared += sampled.len();
        }
    }

    /// Adds a micro-batch to the sampled estimates of KL to the reference and of entropy.
    pub fn add_divergence(&mut self, scored: &Scored, reference: &[Vec<f32>]) {
        let anchor = reference.iter().map(|logps| sum(logps));
        self.kl += scored.sums.iter().zip(anchor).map(|(policy, anchor)| f64::from(policy - anchor)).sum::<f64>();
        self.entropy -= scored.sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        self.sequences += scored.sums.len();
    }

    /// Writes the means into the step's record.
    pub fn describe(&self, metrics: &mut Map<String, Value>) {
        metrics.insert("learning_rate".into(), json!(self.rate));
        if self.pairs == 0 {
            return;
        }
        let (pairs, sequences) = (self.pairs as f64, self.sequences as f64);
        metrics.insert("loss".into(), json!(self.loss / pairs));
        metrics.insert("grad_norm".into(), json!(self.grad_norm));
        metrics.insert("time/optimizer".into(), json!(rounded(self.optimizer_seconds)));
        for (name, value) in self.metrics.means() {
            metrics.insert(name.into(), json!(value));
        }
        metrics.insert("objective/kl".into(), json!(self.kl / sequences));
        metrics.insert("objective/entropy".into(), json!(self.entropy / sequences));
        if let Some(gap) = self.gap {
            metrics.insert("collect/logp_gap".into(), json!(gap / self.compared.max(1) as f64));
        }
        if self.margins.len() > 1 {
            metrics.insert("ensemble/disagreement".into(), json!(disagreement(&self.margins)));
        }
    }
}

/// How far members differ in their implicit reward margins: the standard deviation over members (population),
/// averaged over pairs. `margins` is `[members][pairs]`.
fn disagreement(margins: &[Vec<f64>]) -> f64 {
    let (members, pairs) = (margins.len() as f64, margins.first().map_or(0, Vec::len));
    let deviation = |pair: usize| {
        let mean = margins.iter().map(|member| member[pair]).sum::<f64>() / members;
        (margins.iter().map(|member| (member[pair] - mean).powi(2)).sum::<f64>() / members).sqrt()
    };
    (0..pairs).map(deviation).sum::<f64>() / pairs.max(1) as f64
}

/// What was sampled and how it was judged.
pub(crate) fn describe_collection(
    collected: &[Collected],
    step: u64,
    pairs: &[Pair<'_>],
    metrics: &mut Map<String, Value>,
) {
    metrics.insert("collect/pairs".into(), json!(pairs.len()));
    let prompt_tokens: usize = pairs.iter().map(|pair| pair.prompt.ids.len()).sum();
    let response_tokens: usize = pairs.iter().flat_map(Pair::samples).map(|sample| sample.tokens.len()).sum();
    metrics.insert("collect/prompt_tokens".into(), json!(prompt_tokens));
    metrics.insert("collect/response_tokens".into(), json!(response_tokens));
    let reused = collected.iter().filter(|collected| collected.at != step).count();
    if reused > 0 {
        metrics.insert("collect/reused".into(), json!(reused));
    }
    let fresh = || collected.iter().filter(|collected| collected.at == step);
    let samples: Vec<&Sample> = fresh().flat_map(|collected| &collected.drawn.samples).collect();
    if !samples.is_empty() {
        let mean = |sum: f64| sum / samples.len() as f64;
        metrics.insert("collect/length".into(), json!(mean(samples.iter().map(|s| s.tokens.len() as f64).sum())));
        metrics.insert("collect/distinct".into(), json!(collect::distinct(samples.iter().map(|s| s.text.as_str()))));
        metrics.insert("val/contain_eos_token".into(), json!(mean(samples.iter().filter(|s| s.eos).count() as f64)));
    }
    let origins: Vec<Origin> = samples.iter().filter_map(|sample| sample.origin).collect();
    if !origins.is_empty() {
        let count = |is: fn(&Origin) -> bool| origins.iter().filter(|origin| is(origin)).count();
        metrics.insert("collect/rescored".into(), json!(count(|origin| origin.rescored)));
        metrics.insert("collect/retokenised".into(), json!(count(|origin| origin.retokenised)));
        let gaps: Vec<f64> = origins.iter().filter_map(|origin| origin.logp_gap).map(f64::from).collect();
        if !gaps.is_empty() {
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            metrics.insert("collect/server_logp_gap".into(), json!(mean));
        }
    }
    let scores: Vec<[f64; 2]> = fresh()
        .filter_map(|Collected { choice, .. }| Some([choice.score(choice.pair[0])?, choice.score(choice.pair[1])?]))
        .collect();
    if !scores.is_empty() {
        let count = scores.len() as f64;
        let sum: f64 = scores.iter().map(|[a, b]| (a + b) / 2.0).sum();
        let margin: f64 = scores.iter().map(|[a, b]| (a - b).abs()).sum();
        metrics.insert("objective/scores".into(), json!(sum / count));
        metrics.insert("objective/scores_margin".into(), json!(margin / count));
    }
}

/// Seconds of a step's stages, in the order in which they end.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    laps: Vec<(&'static str, f64)>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { started: Instant::now(), laps: Vec::new() }
    }
}

impl Clock {
    /// The stage `name` ends now.
    pub fn lap(&mut self, name: &'static str) {
        let before: f64 = self.laps.iter().map(|(_, seconds)| seconds).sum();
        self.laps.push((name, self.started.elapsed().as_secs_f64() - before));
    }

    /// Writes the stages and the whole step into the step's record.
    pub fn describe(self, metrics: &mut Map<String, Value>) {
        let whole = ("time/step", self.started.elapsed().as_secs_f64());
        for (name, seconds) in self.laps.into_iter().chain([whole]) {
            metrics.insert(name.into(), json!(rounded(seconds)));
        }
    }
}

/// To a tenth of a millisecond.
pub(crate) fn rounded(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 1e4
}

/// Peak resident memory of this process, where the system tells (Linux).
pub(crate) fn peak_rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}
