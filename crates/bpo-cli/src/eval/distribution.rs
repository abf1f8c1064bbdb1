//! How scores are spread.
use serde::Serialize;

/// Shares at which quantiles are told, in hundredths.
pub const SHARES: [usize; 5] = [5, 25, 50, 75, 95];
const BINS: usize = 20;

/// Quantiles and a histogram.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distribution {
    /// At [`SHARES`], between two scores by their distance (as numpy has it).
    pub quantiles: [f64; SHARES.len()],
    /// Lowest and highest score: the ends of the histogram.
    pub range: [f64; 2],
    /// Scores in each of twenty bins of equal width; the last one holds its upper end.
    pub histogram: [usize; BINS],
}

impl Distribution {
    /// Of scores; `None` without any.
    pub fn of(scores: impl Iterator<Item = f64>) -> Option<Self> {
        let mut scores: Vec<f64> = scores.collect();
        scores.sort_unstable_by(f64::total_cmp);
        let range = [*scores.first()?, *scores.last()?];
        let mut histogram = [0; BINS];
        for score in &scores {
            let share = if range[1] > range[0] { (score - range[0]) / (range[1] - range[0]) } else { 0.0 };
            histogram[((share * BINS as f64) as usize).min(BINS - 1)] += 1;
        }
        Some(Self { quantiles: SHARES.map(|share| quantile(&scores, share as f64 / 100.0)), range, histogram })
    }
}

/// Of sorted scores, at least one.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + place.fract() * (above - below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_numpy_and_every_score_is_in_one_bin() {
        // numpy.quantile([3, 1, 2, 10], [.05, .25, .5, .75, .95])
        let found = Distribution::of([3.0, 1.0, 2.0, 10.0].into_iter()).unwrap();
        for (ours, theirs) in found.quantiles.iter().zip([1.15, 1.75, 2.5, 4.75, 8.95]) {
            assert!((ours - theirs).abs() < 1e-12, "{ours} {theirs}");
        }
        assert_eq!((found.range, found.histogram.iter().sum::<usize>()), ([1.0, 10.0], 4));
        assert_eq!((found.histogram[0], found.histogram[19]), (1, 1));
        assert_eq!(Distribution::of(std::iter::empty()), None);
        assert_eq!(Distribution::of([2.0; 3].into_iter()).unwrap().histogram[0], 3);
    }
}
