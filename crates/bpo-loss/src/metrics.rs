use burn::tensor::Tensor;

use crate::PairLogps;

/// Implicit rewards `β·(log π − log ref)` of the chosen and the rejected completions, `[pairs]` each,
/// outside the autodiff graph. Rafailov et al. 2023, section 4.
pub fn implicit_rewards(policy: &PairLogps, reference: &PairLogps, beta: f64) -> (Tensor<1>, Tensor<1>) {
    let reward =
        |policy: &Tensor<1>, reference: &Tensor<1>| (policy.clone().inner() - reference.clone().inner()) * beta;
    (reward(&policy.chosen, &reference.chosen), reward(&policy.rejected, &reference.rejected))
}

/// Sums over pairs of what TRL logs; add the micro-batches of a step, then read the means.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PairMetrics {
    /// Pairs seen.
    pub pairs: usize,
    /// Σ implicit reward of the chosen completions.
    pub rewards_chosen: f64,
    /// Σ implicit reward of the rejected completions.
    pub rewards_rejected: f64,
    /// Pairs whose chosen reward is strictly above the rejected one.
    pub accurate: usize,
    /// Σ summed log-probs of the chosen completions.
    pub logps_chosen: f64,
    /// Σ summed log-probs of the rejected completions.
    pub logps_rejected: f64,
}

impl PairMetrics {
    /// From the host values of one batch; all slices `[pairs]`.
    pub fn of(policy: [&[f32]; 2], reference: [&[f32]; 2], beta: f64) -> Self {
        let mut metrics = Self::default();
        for pair in 0..policy[0].len() {
            let reward = |side: usize| beta * (f64::from(policy[side][pair]) - f64::from(reference[side][pair]));
            let (chosen, rejected) = (reward(0), reward(1));
            metrics.pairs += 1;
            metrics.rewards_chosen += chosen;
            metrics.rewards_rejected += rejected;
            metrics.accurate += usize::from(chosen > rejected);
            metrics.logps_chosen += f64::from(policy[0][pair]);
            metrics.logps_rejected += f64::from(policy[1][pair]);
        }
        metrics
    }

    /// Adds another batch of the same step.
    pub fn add(&mut self, other: &Self) {
        self.pairs += other.pairs;
        self.rewards_chosen += other.rewards_chosen;
        self.rewards_rejected += other.rewards_rejected;
        self.accurate += other.accurate;
        self.logps_chosen += other.logps_chosen;
        self.logps_rejected += other.logps_rejected;
    }

    /// `(name, mean over pairs)` under TRL's names; empty without pairs.
    pub fn means(&self) -> Vec<(&'static str, f64)> {
        if self.pairs == 0 {
            return Vec::new();
        }
        let mean = |sum: f64| sum / self.pairs as f64;
        vec![
            ("rewards/chosen", mean(self.rewards_chosen)),
            ("rewards/rejected", mean(self.rewards_rejected)),
            ("rewards/margins", mean(self.rewards_chosen - self.rewards_rejected)),
            ("rewards/accuracies", self.accurate as f64 / self.pairs as f64),
            ("logps/chosen", mean(self.logps_chosen)),
            ("logps/rejected", mean(self.logps_rejected)),
        ]
    }
}
