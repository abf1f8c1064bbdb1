/// What the importance ratios of a batch amount to, from host values in f64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImportanceMetrics {
    /// Mean of r·Y: the IPW estimate of the policy's value.
    pub value_ipw: f64,
    /// Σ r·Y / Σ r: the self-normalised one.
    pub value_self_normalised: f64,
    /// (Σ r)²/Σ r², from 1 (one text decides) to n (all count alike).
    pub effective_samples: f64,
    /// Largest ratio.
    pub max_ratio: f64,
}

impl ImportanceMetrics {
    /// From unclipped ratios; all slices `[n]`, n ≥ 1.
    pub fn of(policy_logps: &[f32], logging_logps: &[f32], outcomes: &[f64]) -> Self {
        let log_ratios = || policy_logps.iter().zip(logging_logps).map(|(p, q)| f64::from(*p) - f64::from(*q));
        let max = log_ratios().fold(f64::NEG_INFINITY, f64::max);
        // Relative to the largest: no sum overflows.
        let ratios: Vec<f64> = log_ratios().map(|log_ratio| (log_ratio - max).exp()).collect();
        let (sum, squares) = (ratios.iter().sum::<f64>(), ratios.iter().map(|ratio| ratio * ratio).sum::<f64>());
        let weighted: f64 = ratios.iter().zip(outcomes).map(|(ratio, outcome)| ratio * outcome).sum();
        Self {
            value_ipw: max.exp() * (weighted / ratios.len() as f64),
            value_self_normalised: weighted / sum,
            effective_samples: sum * sum / squares,
            max_ratio: max.exp(),
        }
    }
}
