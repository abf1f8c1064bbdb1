//! How often which values occurred, of two kinds of things on the same axis.
use super::{
    scale::{self, Scale},
    svg::{Anchor, COLOURS, FAINT, Font, INK, Svg},
};

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 170.0;
/// What is left of the bars, right of them, above and below.
const MARGINS: [f64; 4] = [14.0, 14.0, 34.0, 26.0];
const BINS: usize = 24;

const TITLE: Font = Font { size: 15.0, colour: INK, weight: 600 };
const TICK: Font = Font { size: 13.5, colour: FAINT, weight: 400 };

/// Two histograms over each other.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Above the bars.
    pub title: String,
    /// Values, drawn in the first colour.
    pub first: Vec<f64>,
    /// Values, drawn in the second colour.
    pub second: Vec<f64>,
    /// The axis, the same for all histograms of a row.
    pub range: [f64; 2],
}

impl Histogram {
    /// A range that holds all finite values.
    pub fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let size = values.iter().fold(0.0, |size: f64, value| size.max(value.abs()));
        scale::around(values.into_iter(), 1e-3 * size + 1e-9, [f64::MIN, f64::MAX])
    }

    /// A part of a page.
    pub fn inline(&self) -> String {
        let mut svg = Svg::new(WIDTH, HEIGHT);
        let [left, right, top, bottom] = MARGINS;
        let x = Scale { data: self.range, pixels: [left, WIDTH - right] };
        let shares = [&self.first, &self.second].map(|values| self.shares(values));
        let highest = shares.iter().flatten().fold(1e-9, |highest: f64, share| highest.max(*share));
        let y = Scale { data: [0.0, highest], pixels: [HEIGHT - bottom, top] };
        svg.text([left, 18.0], &self.title, TITLE, Anchor::Start);
        let width = (WIDTH - left - right) / BINS as f64;
        for (shares, colour) in shares.iter().zip(COLOURS) {
            for (bin, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
                let height = (HEIGHT - bottom) - y.at(*share);
                svg.bar([left + bin as f64 * width + 0.5, y.at(*share)], [width - 1.0, height], colour, 0.55);
            }
        }
        svg.line([left, HEIGHT - bottom], [WIDTH - right, HEIGHT - bottom], (FAINT, 1.0), "");
        let ticks = x.ticks(4);
        for &tick in &ticks {
            svg.text([x.at(tick), HEIGHT - bottom + 18.0], &scale::label(tick, &ticks), TICK, Anchor::Middle);
        }
        svg.inline(&self.title)
    }

    /// Share of the values in each bin.
    fn shares(&self, values: &[f64]) -> Vec<f64> {
        let bins = Scale { data: self.range, pixels: [0.0, BINS as f64] };
        let mut shares = vec![0.0; BINS];
        for value in values.iter().filter(|value| value.is_finite()) {
            shares[(bins.at(*value) as usize).min(BINS - 1)] += 1.0 / values.len() as f64;
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bin() {
        let first = vec![-1.0, 0.0, 0.5, 1.0, 1.0];
        let range = Histogram::range(first.iter().copied());
        let histogram = Histogram { first, range, ..Histogram::default() };
        assert!((histogram.shares(&histogram.first).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(histogram.inline().matches("<rect").count(), 4);
    }

    #[test]
    fn no_values_are_an_empty_drawing() {
        let range = Histogram::range(std::iter::empty());
        assert!(!Histogram { range, ..Histogram::default() }.inline().contains("<rect"));
    }
}
