//! Means over seeds and how far they can be trusted.
use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

/// A mean, with its 95 % interval where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// How reports write one: a number, or a mean with its bootstrap interval.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Interval { mean: f64, low: Option<f64>, high: Option<f64> },
}

impl From<Written> for Estimate {
    fn from(written: Written) -> Self {
        match written {
            Written::Number(mean) => Self::known(mean),
            Written::Interval { mean, low, high } => Self { mean, low, high },
        }
    }
}

impl Estimate {
    /// A number without an interval.
    pub fn known(mean: f64) -> Self {
        Self { mean, low: None, high: None }
    }

    /// Mean of `values` with Student's t interval, mean ± t₀.₉₇₅(n − 1) · s / √n; of a single value, no
    /// interval; of none, nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        match values.len() {
            0 => None,
            1 => Some(Self::known(mean)),
            count => {
                let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
                let half = t_quantile(count as u32 - 1) * (variance / n).sqrt();
                Some(Self { mean, low: Some(mean - half), high: Some(mean + half) })
            }
        }
    }

    /// [`Estimate::of`] the means; a single estimate keeps its own interval.
    pub fn over(estimates: &[Self]) -> Option<Self> {
        match estimates {
            [single] => Some(*single),
            many => Self::of(&many.iter().map(|estimate| estimate.mean).collect::<Vec<_>>()),
        }
    }

    /// All three numbers times `factor`, which is positive.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        let times = |value: f64| value * factor;
        Self { mean: times(self.mean), low: self.low.map(times), high: self.high.map(times) }
    }

    /// Both ends of the interval; the mean twice where there is none.
    pub fn range(&self) -> [f64; 2] {
        [self.low.unwrap_or(self.mean), self.high.unwrap_or(self.mean)]
    }

    /// `79.2 [73.5, 84.8]`, or `79.2`.
    pub fn text(&self, digits: usize) -> String {
        match (self.low, self.high) {
            (Some(low), Some(high)) => format!("{:.digits$} [{low:.digits$}, {high:.digits$}]", self.mean),
            _ => format!("{:.digits$}", self.mean),
        }
    }
}

/// The 97.5th percentile of Student's t with `freedom` ≥ 1 degrees of freedom: √ν · tan θ where
/// [`central`] is 0.95.
fn t_quantile(freedom: u32) -> f64 {
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    // Each turn halves an interval of 1.6: 60 reach the last bit.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if central(middle, freedom) < 0.95 { low = middle } else { high = middle }
    }
    f64::from(freedom).sqrt() * low.tan()
}

/// P(|t| ≤ √ν · tan θ), exactly (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4).
fn central(theta: f64, freedom: u32) -> f64 {
    let (sine, cosine) = theta.sin_cos();
    let is_odd = freedom % 2 == 1;
    let (mut term, mut sum) = (if is_odd { cosine } else { 1.0 }, 0.0);
    for k in (if is_odd { 1 } else { 0 }..freedom.saturating_sub(1)).step_by(2) {
        sum += term;
        term *= cosine * cosine * f64::from(k + 1) / f64::from(k + 2);
    }
    if is_odd { (theta + sine * sum) / FRAC_PI_2 } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of R's `qt(0.975, df)`.
    #[test]
    fn quantiles_are_students() {
        for (freedom, quantile) in [
            (1, 12.706_204_736),
            (2, 4.302_652_730),
            (3, 3.182_446_305),
            (4, 2.776_445_105),
            (7, 2.364_624_252),
            (10, 2.228_138_852),
            (30, 2.042_272_456),
            (1000, 1.962_339_081),
        ] {
            let ours = t_quantile(freedom);
            assert!((ours - quantile).abs() < 1e-8, "{freedom}: {ours}");
        }
    }

    #[test]
    fn an_interval_is_students_one() {
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        // s = √(5/3), s/√4 = 0.645497, t₀.₉₇₅(3) = 3.182446
        assert_eq!(estimate.mean, 2.5);
        assert!((estimate.high.unwrap() - 4.554_26).abs() < 1e-5, "{estimate:?}");
        assert!((estimate.low.unwrap() - 0.445_74).abs() < 1e-5, "{estimate:?}");
    }

    #[test]
    fn one_value_has_no_interval_and_one_estimate_keeps_its_own() {
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[0.5]), Some(Estimate::known(0.5)));
        let own = Estimate { mean: 0.5, low: Some(0.4), high: Some(0.6) };
        assert_eq!(Estimate::over(&[own]), Some(own));
        assert_eq!(Estimate::over(&[own, own]).unwrap().range(), [0.5, 0.5]);
    }

    #[test]
    fn numbers_and_intervals_are_read() {
        let read = |text: &str| serde_json::from_str::<Estimate>(text).unwrap();
        assert_eq!(read("2.5"), Estimate::known(2.5));
        assert_eq!(read(r#"{"mean":1,"low":0,"high":2}"#).text(1), "1.0 [0.0, 2.0]");
    }
}
