//! A line chart with bands and a legend beside the ends of its lines.
use bpo_report::plot::{
    scale::{self, Scale},
    svg::{Anchor, COLOURS, FAINT, Font, GRID, INK, Svg, cut, folded},
};

use crate::compare::statistics::Estimate;

/// Lines of further series, which begin again with the first colour.
const DASHES: [&str; 3] = ["", "7 4", "2 3"];

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 520.0;
/// The part of the drawing that is left of the lines, right of them, above and below.
const MARGINS: [f64; 4] = [70.0, 236.0, 82.0, 62.0];
/// From the plot to the legend, and in it from a line's sample to its text.
const GAPS: [f64; 2] = [26.0, 36.0];
/// A line of the legend.
const LINE: f64 = 16.0;

const TITLE: Font = Font { size: 19.0, colour: INK, weight: 600 };
const SUBTITLE: Font = Font { size: 13.0, colour: FAINT, weight: 400 };
const AXIS: Font = Font { size: 13.5, colour: INK, weight: 400 };
const TICK: Font = Font { size: 12.5, colour: FAINT, weight: 400 };
const NAME: Font = Font { size: 13.5, colour: INK, weight: 600 };
const VALUE: Font = Font { size: 12.5, colour: FAINT, weight: 400 };

/// An axis.
#[derive(Debug)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: String,
    /// The data it shows.
    pub range: [f64; 2],
    /// Where its ticks are; round numbers if there are none.
    pub ticks: Vec<f64>,
}

/// A line.
#[derive(Debug)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// Below it.
    pub value: String,
    /// x and y of its points.
    pub points: Vec<[Estimate; 2]>,
}

/// A chart.
#[derive(Debug)]
pub struct Chart {
    /// Above everything.
    pub title: String,
    /// Below the title.
    pub subtitle: String,
    /// Across.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// A level worth a dashed line.
    pub level: Option<(f64, &'static str)>,
    /// The lines, the first one in front.
    pub series: Vec<Series>,
    /// Whether lines end at the right edge: then y has a band and the legend is tied to the ends of the lines.
    /// Otherwise the last point shows its intervals in both directions.
    pub over_steps: bool,
}

/// How a series looks.
#[derive(Clone, Copy)]
struct Look {
    colour: &'static str,
    dash: &'static str,
    marker: usize,
}

impl Look {
    fn of(index: usize) -> Self {
        let dash = DASHES[index / COLOURS.len() % DASHES.len()];
        Self { colour: COLOURS[index % COLOURS.len()], dash, marker: index % MARKERS }
    }
}

impl Chart {
    /// The chart as SVG.
    pub fn svg(&self) -> String {
        let boxes: Vec<Vec<String>> = self.series.iter().map(legend_lines).collect();
        let heights: Vec<f64> = boxes.iter().map(|lines| LINE * (lines.len() as f64 + 0.5)).collect();
        let [left, right, top, bottom] = MARGINS;
        let plot = (HEIGHT - top - bottom).max(heights.iter().sum());
        let mut svg = Svg::new(WIDTH, top + plot + bottom);
        let x = Scale { data: self.x.range, pixels: [left, WIDTH - right] };
        let y = Scale { data: self.y.range, pixels: [top + plot, top] };
        self.frame(&mut svg, &x, &y);
        for (index, series) in self.series.iter().enumerate().rev() {
            self.draw(&mut svg, series, Look::of(index), (&x, &y));
        }
        self.legend(&mut svg, &y, &boxes, &heights);
        svg.finish(&self.title)
    }

    fn frame(&self, svg: &mut Svg, x: &Scale, y: &Scale) {
        let ([left, right], [bottom, top]) = (x.pixels, y.pixels);
        let width = WIDTH - 2.0 * 24.0;
        svg.text([24.0, 34.0], &cut(&self.title, TITLE.fitting(width)), TITLE, Anchor::Start);
        svg.text([24.0, 56.0], &cut(&self.subtitle, SUBTITLE.fitting(width)), SUBTITLE, Anchor::Start);
        let ticks = y.ticks(6);
        for &tick in &ticks {
            svg.line([left, y.at(tick)], [right, y.at(tick)], (GRID, 1.0), "");
            svg.text([left - 9.0, y.at(tick) + 4.5], &scale::label(tick, &ticks), TICK, Anchor::End);
        }
        let ticks = if self.x.ticks.is_empty() { x.ticks(7) } else { self.x.ticks.clone() };
        for &tick in &ticks {
            svg.line([x.at(tick), top], [x.at(tick), bottom], (GRID, 1.0), "");
            svg.text([x.at(tick), bottom + 20.0], &scale::label(tick, &ticks), TICK, Anchor::Middle);
        }
        if let Some((level, name)) = self.level.filter(|(level, _)| (y.data[0]..=y.data[1]).contains(level)) {
            svg.line([left, y.at(level)], [right, y.at(level)], ("#999999", 1.2), "4 4");
            svg.text([right - 6.0, y.at(level) - 6.0], name, TICK, Anchor::End);
        }
        svg.line([left, bottom], [right, bottom], ("#888888", 1.2), "");
        svg.text([f64::midpoint(left, right), bottom + 46.0], &self.x.label, AXIS, Anchor::Middle);
        svg.upright([22.0, f64::midpoint(top, bottom)], &self.y.label, AXIS);
    }

    fn draw(&self, svg: &mut Svg, series: &Series, look: Look, (x, y): (&Scale, &Scale)) {
        let at = |[across, up]: &[Estimate; 2]| [x.at(across.mean), y.at(up.mean)];
        if self.over_steps {
            let edge = |side: usize| move |[across, up]: &[Estimate; 2]| [x.at(across.mean), y.at(up.range()[side])];
            let around = series.points.iter().map(edge(0)).chain(series.points.iter().rev().map(edge(1)));
            svg.area(&around.collect::<Vec<_>>(), look.colour, 0.11);
        } else if let Some([across, up]) = series.points.last() {
            let ([low, high], [bottom, top]) = (across.range().map(|v| x.at(v)), up.range().map(|v| y.at(v)));
            svg.line([low, y.at(up.mean)], [high, y.at(up.mean)], (look.colour, 1.3), "");
            svg.line([x.at(across.mean), bottom], [x.at(across.mean), top], (look.colour, 1.3), "");
        }
        svg.path(&series.points.iter().map(at).collect::<Vec<_>>(), (look.colour, 2.4), look.dash);
        for point in &series.points {
            marker(svg, at(point), look);
        }
    }

    /// Names and values, as near as can be to the heights at which the lines end.
    fn legend(&self, svg: &mut Svg, y: &Scale, boxes: &[Vec<String>], heights: &[f64]) {
        let end = |series: &Series| series.points.last().map_or(y.pixels[0], |[_, up]| y.at(up.mean));
        let ends: Vec<f64> = self.series.iter().map(end).collect();
        let tops = scale::spread(&ends, heights, [y.pixels[1], y.pixels[0]]);
        let edge = WIDTH - MARGINS[1];
        for (index, lines) in boxes.iter().enumerate() {
            let (look, left) = (Look::of(index), edge + GAPS[0]);
            let middle = tops[index] + heights[index] / 2.0;
            if self.over_steps {
                svg.line([edge + 4.0, ends[index]], [left - 2.0, middle], (look.colour, 0.9), "");
            }
            svg.path(&[[left, middle], [left + GAPS[1] - 10.0, middle]], (look.colour, 2.4), look.dash);
            marker(svg, [left + (GAPS[1] - 10.0) / 2.0, middle], look);
            for (row, line) in lines.iter().enumerate() {
                let font = if row + 1 == lines.len() { VALUE } else { NAME };
                let baseline = tops[index] + LINE * (row as f64 + 1.0);
                svg.text([left + GAPS[1], baseline], line, font, Anchor::Start);
            }
        }
    }
}

/// The name, folded, and the value.
fn legend_lines(series: &Series) -> Vec<String> {
    let width = MARGINS[1] - GAPS[0] - GAPS[1] - 8.0;
    let mut lines = folded(&series.name, NAME.fitting(width));
    lines.push(cut(&series.value, VALUE.fitting(width)));
    lines
}

/// Kinds of markers.
const MARKERS: usize = 5;
/// Corners of all markers but the first, a disc: square, triangle, diamond, triangle on its head.
const CORNERS: [&[[f64; 2]]; MARKERS - 1] = [
    &[[-4.2, -4.2], [4.2, -4.2], [4.2, 4.2], [-4.2, 4.2]],
    &[[0.0, -5.6], [5.2, 4.2], [-5.2, 4.2]],
    &[[0.0, -5.8], [5.8, 0.0], [0.0, 5.8], [-5.8, 0.0]],
    &[[0.0, 5.6], [5.2, -4.2], [-5.2, -4.2]],
];

fn marker(svg: &mut Svg, [x, y]: [f64; 2], look: Look) {
    match look.marker.checked_sub(1) {
        None => svg.disc([x, y], 4.8, look.colour),
        Some(kind) => {
            let corners: Vec<[f64; 2]> = CORNERS[kind].iter().map(|[dx, dy]| [x + dx, y + dy]).collect();
            svg.outline(&corners, look.colour);
        }
    }
}
