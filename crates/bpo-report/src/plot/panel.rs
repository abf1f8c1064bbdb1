//! A small chart of one quantity over the steps of a run.
use super::{
    scale::{self, Scale},
    svg::{Anchor, COLOURS, FAINT, Font, GRID, INK, Svg, cut},
};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 250.0;
/// What is left of the lines, right of them, above and below.
const MARGINS: [f64; 4] = [52.0, 22.0, 50.0, 34.0];
/// Points of a line that are drawn; a longer one is thinned.
const POINTS: usize = 400;
/// Points from which a line is drawn with its running mean.
const NOISY: usize = 40;
/// Phase boundaries beyond which none is drawn: they would be a grey area.
const BOUNDARIES: usize = 40;
/// Values beyond which nothing is drawn: a run has gone astray long before.
const LARGEST: f64 = 1e30;

const TITLE: Font = Font { size: 14.0, colour: INK, weight: 600 };
const LEGEND: Font = Font { size: 12.0, colour: FAINT, weight: 400 };
const TICK: Font = Font { size: 11.5, colour: FAINT, weight: 400 };

/// A line of a [`Panel`].
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// In the legend; of a panel's only line, nothing.
    pub name: String,
    /// Step and value, by step.
    pub points: Vec<[f64; 2]>,
    /// 95 % intervals of the points, where they have any.
    pub intervals: Vec<[f64; 2]>,
}

/// A chart of one quantity.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    /// What is drawn, with its unit.
    pub title: String,
    /// The lines, the first one in front.
    pub lines: Vec<Line>,
    /// Steps at which a phase of data collection begins.
    pub boundaries: Vec<f64>,
    /// The last step.
    pub end: f64,
    /// A level worth a dashed line.
    pub level: Option<f64>,
    /// What values cannot exceed.
    pub limits: Option<[f64; 2]>,
}

impl Panel {
    /// A file of its own.
    pub fn file(&self) -> String {
        self.drawn().finish(&self.title)
    }

    /// A part of a page.
    pub fn inline(&self) -> String {
        self.drawn().inline(&self.title)
    }

    fn drawn(&self) -> Svg {
        let mut svg = Svg::new(WIDTH, HEIGHT);
        let [left, right, top, bottom] = MARGINS;
        let x = Scale { data: [0.0, self.end.max(1.0)], pixels: [left, WIDTH - right] };
        let y = Scale { data: self.range(), pixels: [HEIGHT - bottom, top] };
        self.frame(&mut svg, &x, &y);
        for (index, line) in self.lines.iter().enumerate().rev() {
            draw(&mut svg, line, COLOURS[index % COLOURS.len()], (&x, &y));
        }
        svg
    }

    fn range(&self) -> [f64; 2] {
        let points = self.lines.iter().flat_map(|line| &line.points).map(|[_, value]| *value);
        let ends = self.lines.iter().flat_map(|line| &line.intervals).flatten().copied();
        let values: Vec<f64> = points.chain(ends).chain(self.level).filter(|value| value.abs() <= LARGEST).collect();
        // Small noise does not fill the drawing.
        let size = values.iter().fold(0.0, |size: f64, value| size.max(value.abs()));
        let span = self.limits.map_or(0.02 * size + 1e-12, |[low, high]| 0.1 * (high - low));
        scale::around(values.into_iter(), span, self.limits.unwrap_or([f64::MIN, f64::MAX]))
    }

    fn frame(&self, svg: &mut Svg, x: &Scale, y: &Scale) {
        let ([left, right], [bottom, top]) = (x.pixels, y.pixels);
        svg.text([8.0, 20.0], &cut(&self.title, TITLE.fitting(1.2 * WIDTH)), TITLE, Anchor::Start);
        self.legend(svg);
        let ticks = y.ticks(4);
        for &tick in &ticks {
            svg.line([left, y.at(tick)], [right, y.at(tick)], (GRID, 1.0), "");
            svg.text([left - 6.0, y.at(tick) + 4.0], &short(tick, &ticks), TICK, Anchor::End);
        }
        let inside = self.boundaries.iter().filter(|step| **step > 0.0 && **step < self.end);
        if inside.clone().count() <= BOUNDARIES {
            for &step in inside {
                svg.line([x.at(step), top], [x.at(step), bottom], (FAINT, 0.8), "2 3");
            }
        }
        let ticks = x.ticks(5);
        for &tick in ticks.iter().filter(|tick| tick.fract() == 0.0) {
            svg.text([x.at(tick), bottom + 16.0], &short(tick, &ticks), TICK, Anchor::Middle);
        }
        if let Some(level) = self.level {
            svg.line([left, y.at(level)], [right, y.at(level)], (FAINT, 1.2), "5 4");
        }
        svg.line([left, bottom], [right, bottom], (FAINT, 1.0), "");
        svg.text([right, bottom + 29.0], "steps", TICK, Anchor::End);
    }

    fn legend(&self, svg: &mut Svg) {
        let mut x = 8.0;
        for (index, line) in self.lines.iter().enumerate().filter(|(_, line)| !line.name.is_empty()) {
            svg.path(&[[x, 36.0], [x + 14.0, 36.0]], (COLOURS[index % COLOURS.len()], 2.4), "");
            svg.text([x + 19.0, 40.0], &line.name, LEGEND, Anchor::Start);
            x += 34.0 + 6.0 * line.name.chars().count() as f64;
        }
    }
}

fn draw(svg: &mut Svg, line: &Line, colour: &str, (x, y): (&Scale, &Scale)) {
    let places = |points: &[[f64; 2]]| points.iter().map(|[step, v]| [x.at(*step), y.at(*v)]).collect::<Vec<_>>();
    let points: Vec<[f64; 2]> = line.points.iter().filter(|[_, value]| value.abs() <= LARGEST).copied().collect();
    if points.len() >= NOISY {
        svg.trace(&places(&thinned(&points)), colour, 0.35);
        svg.path(&places(&means(&points)), (colour, 2.0), "");
        return;
    }
    for ([step, _], [low, high]) in line.points.iter().zip(&line.intervals) {
        svg.line([x.at(*step), y.at(*low)], [x.at(*step), y.at(*high)], (colour, 1.4), "");
    }
    svg.path(&places(&points), (colour, 2.0), "");
    if points.len() == 1 || !line.intervals.is_empty() {
        places(&points).into_iter().for_each(|place| svg.disc(place, 3.6, colour));
    }
}

/// The lowest and the highest point of each of some stretches, in their order: peaks survive.
fn thinned(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(POINTS / 2);
    let mut kept = Vec::with_capacity(POINTS);
    for stretch in points.chunks(stretch) {
        let by_value = |a: &&[f64; 2], b: &&[f64; 2]| a[1].total_cmp(&b[1]);
        let ends = stretch.iter().min_by(by_value).into_iter().chain(stretch.iter().max_by(by_value));
        let mut ends: Vec<[f64; 2]> = ends.copied().collect();
        ends.sort_by(|a, b| a[0].total_cmp(&b[0]));
        ends.dedup();
        kept.extend(ends);
    }
    kept
}

/// Means of at most 30 stretches of the line, each at the middle of its stretch.
fn means(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let stretch = points.len().div_ceil(30);
    let mean = |stretch: &[[f64; 2]]| {
        let count = stretch.len() as f64;
        [0, 1].map(|axis| stretch.iter().map(|point| point[axis]).sum::<f64>() / count)
    };
    points.chunks(stretch).map(mean).collect()
}

/// A tick's label in few characters, whatever its size.
fn short(tick: f64, ticks: &[f64]) -> String {
    let largest = ticks.iter().fold(0.0, |size: f64, tick| size.max(tick.abs()));
    match largest {
        _ if tick == 0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{tick:.1e}"),
        _ => scale::label(tick, ticks),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(values: impl Iterator<Item = f64>) -> Line {
        let points = values.enumerate().map(|(step, value)| [step as f64 + 1.0, value]).collect();
        Line { points, ..Line::default() }
    }

    #[test]
    fn a_thinned_line_keeps_its_peaks() {
        let mut all = line((0..10_000).map(|step| (f64::from(step) / 500.0).sin())).points;
        all[7_777][1] = 40.0;
        let kept = thinned(&all);
        assert!(kept.len() <= POINTS && kept.contains(&[7_778.0, 40.0]));
        assert!(kept.windows(2).all(|pair| pair[0][0] < pair[1][0]));
    }

    #[test]
    fn boundaries_are_drawn_between_the_ends_only_and_not_by_the_hundred() {
        let panel = |count: usize| Panel {
            lines: vec![line((0..400).map(f64::from))],
            boundaries: (0..count).map(|phase| phase as f64).collect(),
            end: 400.0,
            ..Panel::default()
        };
        assert_eq!(panel(5).file().matches("\"2 3\"").count(), 4);
        assert_eq!(panel(300).file().matches("\"2 3\"").count(), 0);
    }

    #[test]
    fn a_part_of_a_page_has_the_colours_of_the_page() {
        let panel = Panel { title: "a \"b\" <c>".into(), lines: vec![line((0..9).map(f64::from))], ..Panel::default() };
        let part = panel.inline();
        assert!(part.contains("var(--c0)") && !part.contains("#0072B2") && !part.contains("<c>"), "{part}");
        assert!(panel.file().contains("#0072B2"));
    }

    proptest! {
        #[test]
        fn any_numbers_can_be_drawn(values: Vec<f64>, level: Option<f64>, limits in prop::bool::ANY) {
            let limits = limits.then_some([0.0, 100.0]);
            let panel = Panel { lines: vec![line(values.into_iter())], level, limits, end: 5.0, ..Panel::default() };
            let file = panel.file();
            prop_assert!(!file.contains("NaN") && !file.contains("inf"), "{}", file);
        }
    }
}
