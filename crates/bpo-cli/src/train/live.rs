//! What a run looks like now, in a few lines: its curves so far and the last pair.
use bpo_train::{CurvePoint, Interval, ShownPair};
use serde_json::{Map, Value};

use crate::out::printable;

/// Metrics that have a line, with short names.
const SHOWN: [(&str, &str); 8] = [
    ("loss", "loss"),
    ("causal/value_self_normalised", "value"),
    ("train/tokens_per_second", "tokens/s"),
    ("rewards/margins", "margin"),
    ("objective/kl", "kl"),
    ("objective/scores", "score"),
    ("rewards/accuracies", "as judged"),
    ("collect/length", "length"),
];
/// Lines of [`Live::lines`], at most: of the metrics that one kind of run has, of the win rate, of a pair.
pub const LINES: usize = 6 + 1 + 3;
/// Characters of a curve.
const WIDTH: usize = 40;
/// Characters of a text; what the terminal is too narrow for is cut again where it is drawn.
const TEXT: usize = 300;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The curves of a run and its last pair.
#[derive(Debug, Default)]
pub struct Live {
    curves: [Vec<f64>; SHOWN.len()],
    /// Against the start, by evaluation.
    win_rates: Vec<f64>,
    pair: Option<[String; 3]>,
}

impl Live {
    /// A step trains on this pair among others.
    pub fn pair(&mut self, pair: ShownPair<'_>) {
        self.pair = Some([pair.prompt, pair.chosen, pair.rejected].map(one_line));
    }

    /// A step is done.
    pub fn step(&mut self, metrics: &Map<String, Value>) {
        for (curve, (key, _)) in self.curves.iter_mut().zip(SHOWN) {
            curve.extend(metrics.get(key).and_then(Value::as_f64));
        }
    }

    /// The policy was evaluated.
    pub fn evaluated(&mut self, point: &CurvePoint) {
        self.win_rates.extend(point.win_rate.map(|rate| rate.mean));
    }

    /// One line per metric that the run has, one of its evaluations, and three of the pair.
    pub fn lines(&self) -> Vec<String> {
        let known = self.curves.iter().zip(SHOWN.map(|(_, name)| name)).chain([(&self.win_rates, "win rate")]);
        let curve =
            |(curve, name): (&Vec<f64>, &str)| Some(format!("{name:>10} {:>9.4} {}", curve.last()?, sparkline(curve)));
        let mut lines: Vec<String> = known.filter_map(curve).collect();
        let names = ["prompt", "chosen", "rejected"];
        for (text, name) in self.pair.iter().flatten().zip(names) {
            lines.push(format!("{name:>10} {text}"));
        }
        lines
    }
}

/// An evaluation on one line; the interval is that of the rate against the start.
pub fn evaluation(point: &CurvePoint) -> String {
    let percent = |name: &str, rate: Option<Interval>| Some(format!("{name} {:.1} %", 100.0 * rate?.mean));
    let against_start = point.win_rate.map(|Interval { mean, low, high }| {
        format!("win rate {:.1} % [{:.1}, {:.1}]", 100.0 * mean, 100.0 * low, 100.0 * high)
    });
    let parts = [
        against_start,
        percent("at equal lengths", point.win_rate_length_controlled),
        percent("against references", point.reference_win_rate),
        point.score.map(|score| format!("score {:.3}", score.mean)),
        point.kl.map(|kl| format!("KL {kl:.2}")),
        Some(format!("length {:.1}", point.length)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("step {}: {}", point.step, parts.join(", "))
}

/// Means of stretches of a curve, between its lowest and its highest.
fn sparkline(curve: &[f64]) -> String {
    let stretch = curve.len().div_ceil(WIDTH).max(1);
    let means: Vec<f64> =
        curve.chunks(stretch).map(|values| values.iter().sum::<f64>() / values.len() as f64).collect();
    let (low, high) = means.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    let level = |mean: &f64| {
        let share = if high > low { (mean - low) / (high - low) } else { 0.0 };
        LEVELS[((share * LEVELS.len() as f64) as usize).min(LEVELS.len() - 1)]
    };
    means.iter().map(level).collect()
}

/// The beginning of a text, on one line and without what could steer a terminal or turn its direction.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_turning = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    printable(&words).chars().filter(|c| !is_turning(*c)).take(TEXT).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_curve_fits_whatever_its_length() {
        let rising: Vec<f64> = (0..1000).map(f64::from).collect();
        let line = sparkline(&rising);
        assert!(line.chars().count() <= WIDTH && line.starts_with('▁') && line.ends_with('█'), "{line}");
        assert_eq!(sparkline(&[0.5, 0.5]), "▁▁");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn model_text_cannot_steer_the_terminal() {
        let mut live = Live::default();
        let hostile = "a\x1b[2J\r\n\u{9b}2J\u{202e}b\x07";
        live.pair(ShownPair { prompt: hostile, chosen: hostile, rejected: hostile, gap: None });
        live.step(json!({"step": 1, "loss": 0.5, "note": 1}).as_object().unwrap());
        let lines = live.lines();
        assert_eq!(lines.len(), 4);
        assert!(
            lines.iter().all(|line| !line.chars().any(char::is_control) && !line.contains('\u{202e}')),
            "{lines:?}"
        );
        assert!(lines.len() <= LINES && lines[0].starts_with("      loss    0.5000 ▁"), "{}", lines[0]);
    }
}
