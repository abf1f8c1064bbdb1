//! From data to pixels, and round numbers along an axis.

/// A range of data on a range of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Data at both ends.
    pub data: [f64; 2],
    /// Pixels at both ends.
    pub pixels: [f64; 2],
}

impl Scale {
    /// The pixel of `value`, inside of the range whatever the value.
    pub fn at(&self, value: f64) -> f64 {
        let ([from, to], [start, end]) = (self.data, self.pixels);
        let share = if to > from { ((value - from) / (to - from)).clamp(0.0, 1.0) } else { 0.5 };
        start + share * (end - start)
    }

    /// Round numbers in the range, about `count` of them.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let [from, to] = self.data;
        let step = nice((to - from) / count.max(1) as f64);
        let (first, last) = ((from / step - 1e-9).ceil() as i64, (to / step + 1e-9).floor() as i64);
        (first..=last).map(|index| index as f64 * step).collect()
    }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `step`.
fn nice(step: f64) -> f64 {
    if !(step.is_finite() && step > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * power >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// A range around `values` that spans at least `span`, with air at both ends, inside of `limits`.
pub fn around(values: impl Iterator<Item = f64>, span: f64, limits: [f64; 2]) -> [f64; 2] {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if !(low.is_finite() && high.is_finite()) {
        return [0.0, 1.0];
    }
    let missing = (span - (high - low)).max(0.0);
    let air = 0.04 * (high - low).max(span);
    let top = (high + missing / 2.0 + air).min(limits[1]);
    let bottom = (low - missing / 2.0 - air).min(top - span);
    [bottom.max(limits[0]), top]
}

/// A tick's label: as many digits as tell neighbours apart.
pub fn label(tick: f64, ticks: &[f64]) -> String {
    let step = ticks.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let digits = (0..6).find(|&digits| {
        let scaled = step * 10f64.powi(digits);
        !step.is_finite() || (scaled - scaled.round()).abs() < 1e-6 * scaled
    });
    format!("{:.*}", digits.unwrap_or(6) as usize, tick + 0.0)
}

/// Tops of boxes of `heights` that want to be centred on `wanted`, in the order of `wanted`, without
/// overlap and, if there is room for all, between `top` and `bottom`; as near as can be in least squares.
pub fn spread(wanted: &[f64], heights: &[f64], [top, bottom]: [f64; 2]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // Without the boxes above it, a box may be no higher than the one before: isotonic regression.
    let mut above = 0.0;
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for &index in &order {
        pools.push((wanted[index] - heights[index] / 2.0 - above, 1));
        above += heights[index];
        while let [.., (first, m), (second, n)] = pools[..]
            && second / n as f64 <= first / m as f64
        {
            pools.truncate(pools.len() - 2);
            pools.push((first + second, m + n));
        }
    }
    let places = pools.iter().flat_map(|&(sum, count)| std::iter::repeat_n(sum / count as f64, count));
    let (mut tops, room) = (vec![0.0; wanted.len()], (bottom - above).max(top));
    let mut above = 0.0;
    for (&index, place) in order.iter().zip(places) {
        tops[index] = place.clamp(top, room) + above;
        above += heights[index];
    }
    tops
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(from: f64, to: f64) -> Scale {
        Scale { data: [from, to], pixels: [100.0, 0.0] }
    }

    #[test]
    fn values_land_inside_of_the_pixels() {
        let scale = scale(0.0, 50.0);
        assert_eq!([0.0, 25.0, 50.0, 80.0, -5.0].map(|value| scale.at(value)), [100.0, 50.0, 0.0, 0.0, 100.0]);
    }

    #[test]
    fn ticks_are_round_and_labels_tell_them_apart() {
        assert_eq!(scale(41.0, 93.0).ticks(5), [60.0, 80.0]);
        assert_eq!(scale(48.0, 71.0).ticks(5), [50.0, 55.0, 60.0, 65.0, 70.0]);
        let ticks = scale(0.0, 0.31).ticks(5);
        let labels: Vec<String> = ticks.iter().map(|&tick| label(tick, &ticks)).collect();
        assert_eq!(labels, ["0.0", "0.1", "0.2", "0.3"]);
        let ticks = scale(0.0, 10.0).ticks(4);
        assert_eq!(ticks.iter().map(|&tick| label(tick, &ticks)).collect::<Vec<_>>()[1], "2.5");
        assert_eq!(scale(3.0, 3.0).ticks(5), [3.0]);
    }

    #[test]
    fn a_range_has_air_but_no_more_than_its_limits() {
        assert_eq!(around([50.0, 60.0].into_iter(), 5.0, [0.0, 100.0]), [49.6, 60.4]);
        assert_eq!(around([99.0, 100.0].into_iter(), 10.0, [0.0, 100.0]), [90.0, 100.0]);
        assert_eq!(around(std::iter::empty(), 5.0, [0.0, 100.0]), [0.0, 1.0]);
    }

    #[test]
    fn labels_are_spread_without_overlap() {
        let tops = spread(&[50.0, 52.0, 10.0, 99.0], &[20.0; 4], [0.0, 100.0]);
        assert_eq!(tops, [31.0, 51.0, 0.0, 80.0]);
        let full = spread(&[90.0, 91.0, 92.0], &[30.0; 3], [0.0, 90.0]);
        assert_eq!(full, [0.0, 30.0, 60.0]);
    }
}
