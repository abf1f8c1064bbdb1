//! Means and other estimates with their bootstrap intervals.
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// A mean with its 95 % bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean itself, or another estimate.
    pub mean: f64,
    /// 2.5th percentile of the resampled estimates.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// Mean of `values` with its percentile-bootstrap interval (Efron 1979), by `seed`; `None` without values.
pub fn bootstrap_mean(values: &[f64], seed: u64) -> Option<Interval> {
    bootstrap(values, seed, |values| Some(values.iter().sum::<f64>() / values.len() as f64))
}

/// An `estimate` from `values` with its percentile-bootstrap interval, by `seed`. Resamples without an estimate are left
/// out; `None` where `values` themselves are such.
pub(crate) fn bootstrap<T: Copy>(values: &[T], seed: u64, estimate: impl Fn(&[T]) -> Option<f64>) -> Option<Interval> {
    let mean = if values.is_empty() { None } else { estimate(values) }?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut resample = |_| {
        let draw = |_| values[(random.next_u64() % values.len() as u64) as usize];
        estimate(&(0..values.len()).map(draw).collect::<Vec<T>>())
    };
    let mut estimates: Vec<f64> = (0..RESAMPLES).filter_map(&mut resample).collect();
    estimates.sort_unstable_by(f64::total_cmp);
    let last = estimates.len().saturating_sub(1) as f64;
    let at = |share: f64| estimates.get((last * share).round() as usize).copied().unwrap_or(mean);
    Some(Interval { mean, low: at(0.025), high: at(0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_fair_coin_has_its_theoretical_width() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let interval = bootstrap_mean(&values, 1).unwrap();
        assert_eq!(interval.mean, 0.5);
        // 1.96 · √(0.25 / 400) = 0.049
        assert!((interval.low - 0.451).abs() < 0.006 && (interval.high - 0.549).abs() < 0.006, "{interval:?}");
        assert_eq!(bootstrap_mean(&[], 1), None);
    }
}
