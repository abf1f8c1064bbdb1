//! The metrics of one step, under TRL's names.
use bpo_annotate::Judgement;
use bpo_loss::PairMetrics;
use serde_json::{Map, Value, json};

use crate::{Drawn, Sample, Scored, collect};

/// Sums over a step's micro-batches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trained {
    pairs: usize,
    loss: f64,
    metrics: PairMetrics,
    kl: f64,
    entropy: f64,
    gap: Option<f64>,
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

    /// Adds a micro-batch: the policy's and the reference's Σ log-probs `[sequences]` (even ones chosen, odd
    /// ones rejected) and the sum of its losses. `sampled` are the recorded Σ log-probs where the policy is
    /// the behaviour that drew them: they differ from the policy's by rounding.
    pub fn add(&mut self, scored: &Scored, reference: &[f32], losses: f64, beta: f64, sampled: Option<&[f32]>) {
        let side = |values: &[f32], side: usize| values.iter().skip(side).step_by(2).copied().collect::<Vec<f32>>();
        let policy = [side(&scored.sums, 0), side(&scored.sums, 1)];
        let anchor = [side(reference, 0), side(reference, 1)];
        self.metrics.add(&PairMetrics::of([&policy[0], &policy[1]], [&anchor[0], &anchor[1]], beta));
        self.loss += losses;
        self.kl += scored.sums.iter().zip(reference).map(|(policy, anchor)| f64::from(policy - anchor)).sum::<f64>();
        self.entropy -= scored.sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        if let Some(sampled) = sampled {
            let gap = scored.sums.iter().zip(sampled).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
            *self.gap.get_or_insert(0.0) += gap;
        }
        self.pairs += scored.sums.len() / 2;
    }

    /// Writes the means into the step's record.
    pub fn describe(&self, metrics: &mut Map<String, Value>) {
        metrics.insert("learning_rate".into(), json!(self.rate));
        if self.pairs == 0 {
            return;
        }
        let (pairs, sequences) = (self.pairs as f64, 2.0 * self.pairs as f64);
        metrics.insert("loss".into(), json!(self.loss / pairs));
        metrics.insert("grad_norm".into(), json!(self.grad_norm));
        metrics.insert("time/optimizer".into(), json!(rounded(self.optimizer_seconds)));
        for (name, value) in self.metrics.means() {
            metrics.insert(name.into(), json!(value));
        }
        metrics.insert("objective/kl".into(), json!(self.kl / sequences));
        metrics.insert("objective/entropy".into(), json!(self.entropy / sequences));
        if let Some(gap) = self.gap {
            metrics.insert("collect/logp_gap".into(), json!(gap / sequences));
        }
    }
}

/// What was sampled and how it was judged.
pub(crate) fn describe_collection(
    drawn: &[Drawn],
    judgements: &[Judgement],
    pairs: usize,
    metrics: &mut Map<String, Value>,
) {
    let samples: Vec<&Sample> = drawn.iter().flat_map(|drawn| &drawn.samples).collect();
    let mean = |sum: f64| sum / samples.len().max(1) as f64;
    metrics.insert("collect/pairs".into(), json!(pairs));
    metrics.insert("collect/length".into(), json!(mean(samples.iter().map(|s| s.tokens.len() as f64).sum())));
    metrics.insert("collect/distinct".into(), json!(collect::distinct(samples.iter().map(|s| s.text.as_str()))));
    metrics.insert("val/contain_eos_token".into(), json!(mean(samples.iter().filter(|s| s.eos).count() as f64)));
    let scores: Vec<[f64; 2]> = judgements.iter().filter_map(|judgement| judgement.scores).collect();
    if !scores.is_empty() {
        let count = scores.len() as f64;
        let sum: f64 = scores.iter().map(|[a, b]| (a + b) / 2.0).sum();
        let margin: f64 = scores.iter().map(|[a, b]| (a - b).abs()).sum();
        metrics.insert("objective/scores".into(), json!(sum / count));
        metrics.insert("objective/scores_margin".into(), json!(margin / count));
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
