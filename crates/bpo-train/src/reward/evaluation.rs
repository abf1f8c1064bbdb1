//! How well scores say which response was preferred.
use serde::{Deserialize, Serialize};

use crate::{Interval, bootstrap_mean};

/// Pairs whose predictions are about equally sure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// The least confidence in it.
    pub from: f64,
    /// Pairs in it.
    pub pairs: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// Share of them whose chosen response has the higher score.
    pub accuracy: f64,
}

/// A reward model on held-out pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewardEvaluation {
    /// How many pairs.
    pub pairs: usize,
    /// Share of pairs whose chosen response has the higher score, ties half, with its 95 % bootstrap interval.
    pub accuracy: Interval,
    /// Mean of −log σ(margin), in nats.
    pub loss: f64,
    /// Expected calibration error (Guo et al. 2017, arXiv:1706.04599): the mean distance of confidence and accuracy over
    /// the bins, weighted by pairs.
    pub ece: f64,
    /// Confidence is max(p, 1 − p) of p = σ(margin); five bins from ½ to 1, the empty ones left out.
    pub bins: Vec<ReliabilityBin>,
    /// Mean of chosen minus rejected.
    pub margin: f64,
    /// Mean score of the chosen responses.
    pub chosen: f64,
    /// Mean score of the rejected ones.
    pub rejected: f64,
}

const BINS: usize = 5;

impl RewardEvaluation {
    /// Of scores of the chosen and rejected responses, `[pairs]` each; `None` without pairs.
    pub fn of(chosen: &[f32], rejected: &[f32], seed: u64) -> Option<Self> {
        let margins: Vec<f64> = chosen.iter().zip(rejected).map(|(c, r)| f64::from(*c) - f64::from(*r)).collect();
        let right = |margin: &f64| if *margin == 0.0 { 0.5 } else { f64::from(u8::from(*margin > 0.0)) };
        let rights: Vec<f64> = margins.iter().map(right).collect();
        let accuracy = bootstrap_mean(&rights, seed)?;
        let pairs = margins.len();
        let mut sums = [(0usize, 0.0, 0.0); BINS];
        for (margin, right) in margins.iter().zip(&rights) {
            let confidence = 1.0 / (1.0 + (-margin.abs()).exp());
            let bin = (((confidence - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1);
            let (count, confidences, hits) = &mut sums[bin];
            (*count, *confidences, *hits) = (*count + 1, *confidences + confidence, *hits + right);
        }
        let bin = |(bin, (count, confidences, hits)): (usize, (usize, f64, f64))| ReliabilityBin {
            from: 0.5 + bin as f64 / (2 * BINS) as f64,
            pairs: count,
            confidence: confidences / count as f64,
            accuracy: hits / count as f64,
        };
        let bins: Vec<ReliabilityBin> =
            sums.into_iter().enumerate().filter(|(_, (count, ..))| *count > 0).map(bin).collect();
        let distance = |bin: &ReliabilityBin| bin.pairs as f64 * (bin.accuracy - bin.confidence).abs();
        let mean = |scores: &[f32]| scores.iter().map(|&score| f64::from(score)).sum::<f64>() / pairs as f64;
        let loss = |margin: &f64| (-margin.abs()).exp().ln_1p() - margin.min(0.0);
        Some(Self {
            pairs,
            accuracy,
            loss: margins.iter().map(loss).sum::<f64>() / pairs as f64,
            ece: bins.iter().map(distance).sum::<f64>() / pairs as f64,
            bins,
            margin: margins.iter().sum::<f64>() / pairs as f64,
            chosen: mean(chosen),
            rejected: mean(rejected),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn four_pairs_by_hand() {
        let ln = |p: f64| (p / (1.0 - p)).ln() as f32;
        // Confidences 0.95, 0.95, 0.65 and 0.5: right, wrong, right, tied.
        let evaluation = RewardEvaluation::of(&[ln(0.95), 0.0, ln(0.65), 1.0], &[0.0, ln(0.95), 0.0, 1.0], 1).unwrap();
        assert_eq!((evaluation.pairs, evaluation.accuracy.mean), (4, 0.625));
        let told: Vec<(f64, usize, f64)> =
            evaluation.bins.iter().map(|bin| (bin.from, bin.pairs, bin.accuracy)).collect();
        assert_eq!(told, [(0.5, 1, 0.5), (0.6, 1, 1.0), (0.9, 2, 0.5)]);
        assert!((evaluation.ece - (0.0 + 0.35 + 2.0 * 0.45) / 4.0).abs() < 1e-6, "{evaluation:?}");
        let loss = -(0.95f64.ln() + 0.05f64.ln() + 0.65f64.ln() + 0.5f64.ln()) / 4.0;
        assert!((evaluation.loss - loss).abs() < 1e-6, "{evaluation:?}");
        assert!(RewardEvaluation::of(&[], &[], 1).is_none());
    }

    proptest! {
        #[test]
        fn swapping_the_sides_turns_accuracy_round(scores in vec((-9.0f32..9.0, -9.0f32..9.0), 1..40)) {
            let (chosen, rejected): (Vec<f32>, Vec<f32>) = scores.into_iter().unzip();
            let there = RewardEvaluation::of(&chosen, &rejected, 1).unwrap();
            let back = RewardEvaluation::of(&rejected, &chosen, 1).unwrap();
            prop_assert!((there.accuracy.mean + back.accuracy.mean - 1.0).abs() < 1e-9);
            prop_assert!((there.margin + back.margin).abs() < 1e-9);
            prop_assert_eq!(there.bins.iter().map(|bin| bin.pairs).sum::<usize>(), chosen.len());
            prop_assert!((0.0..=1.0).contains(&there.ece));
        }
    }
}
