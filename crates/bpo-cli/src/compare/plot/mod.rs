//! The figures of a comparison.
mod chart;

use bpo_report::plot::scale;

use super::{
    quantity::{Point, Quantity},
    results::{MethodResult, Results},
    statistics::Estimate,
};
use chart::{Axis, Chart, Series};

/// A figure: its file's name, its title, and the file.
pub struct Figure {
    /// With extension.
    pub file: &'static str,
    /// In words.
    pub title: String,
    /// SVG.
    pub svg: String,
}

/// Evaluations up to which each has a tick of its own.
const OWN_TICKS: usize = 10;

/// All figures that the results have the numbers for.
pub fn figures(results: &Results) -> Vec<Figure> {
    let win_rate = match results.outcome {
        Quantity::ReferenceWinRate => "Win rate against the reference texts",
        _ => "Win rate against the start",
    };
    let charts = [
        ("win_rate.svg", over_steps(results, win_rate, results.outcome)),
        ("win_rate_kl.svg", against_kl(results, &format!("{win_rate}, by KL to the start"))),
        ("length.svg", over_steps(results, "Response length", Quantity::Length)),
        ("distinct.svg", over_steps(results, "Distinct responses", Quantity::Distinct)),
    ];
    let drawn = charts.into_iter().filter(|(_, chart)| !chart.series.is_empty());
    drawn.map(|(file, chart)| Figure { file, svg: chart.svg(), title: chart.title }).collect()
}

/// Who judged what, and what bands are.
fn subtitle(results: &Results, interval: &str) -> String {
    let seeds = results.methods.iter().map(|method| method.cells.len()).max().unwrap_or(0);
    let over = match seeds {
        1 => format!("1 seed; {interval}: 95 % bootstrap over prompts"),
        seeds => format!("mean of {seeds} seeds; {interval}: 95 % t interval over seeds"),
    };
    format!("{over}. {} held-out prompts, annotator {}", results.eval_prompts, results.annotator)
}

/// Shortest range of the y axis: noise shall not fill it. And where it ends.
fn span_and_limits(quantity: Quantity, series: &[Series]) -> (f64, [f64; 2]) {
    match quantity {
        Quantity::ReferenceWinRate | Quantity::WinRate => (20.0, [0.0, 100.0]),
        Quantity::Distinct => (10.0, [0.0, 100.0]),
        _ => (0.3 * ys(series).fold(0.0, f64::max), [0.0, f64::INFINITY]),
    }
}

fn ys(series: &[Series]) -> impl Iterator<Item = f64> {
    series.iter().flat_map(|series| &series.points).flat_map(|[_, up]| up.range())
}

/// A quantity in the unit of its heading.
fn value(quantity: Quantity, point: &Point) -> Option<Estimate> {
    quantity.of(point).map(|estimate| estimate.scaled(quantity.scale()))
}

/// A line through the points at which both coordinates are known.
fn series(method: &MethodResult, quantity: Quantity, x: impl Fn(&Point) -> Option<Estimate>) -> Option<Series> {
    let points: Vec<[Estimate; 2]> =
        method.curve.iter().filter_map(|point| Some([x(point)?, value(quantity, point)?])).collect();
    let last = method.last(quantity)?.text(quantity.digits());
    (points.len() > 1).then(|| Series { name: method.name.clone(), value: last, points })
}

fn over_steps(results: &Results, title: &str, quantity: Quantity) -> Chart {
    let step = |point: &Point| Some(Estimate::known(point.step as f64));
    let series: Vec<Series> = results.methods.iter().filter_map(|method| series(method, quantity, step)).collect();
    let mut steps: Vec<u64> = results.methods.iter().flat_map(|m| &m.curve).map(|point| point.step).collect();
    steps.sort_unstable();
    steps.dedup();
    let ticks = if steps.len() <= OWN_TICKS { steps.iter().map(|&step| step as f64).collect() } else { Vec::new() };
    let level = level(quantity);
    let (span, limits) = span_and_limits(quantity, &series);
    let range = scale::around(ys(&series).chain(level.map(|(level, _)| level)), span, limits);
    Chart {
        title: title.to_owned(),
        subtitle: subtitle(results, "band"),
        x: Axis { label: "optimiser steps".into(), range: [0.0, steps.last().map_or(1.0, |&last| last as f64)], ticks },
        y: Axis { label: quantity.heading().into(), range, ticks: Vec::new() },
        level,
        series,
        over_steps: true,
    }
}

fn against_kl(results: &Results, title: &str) -> Chart {
    let quantity = results.outcome;
    let kl = |point: &Point| value(Quantity::Kl, point);
    let series: Vec<Series> = results.methods.iter().filter_map(|method| series(method, quantity, kl)).collect();
    let furthest = series.iter().flat_map(|series| &series.points).flat_map(|[x, _]| x.range()).fold(0.1, f64::max);
    let level = level(quantity);
    let (span, limits) = span_and_limits(quantity, &series);
    let range = scale::around(ys(&series).chain(level.map(|(level, _)| level)), span, limits);
    Chart {
        title: title.to_owned(),
        subtitle: subtitle(results, "crosses"),
        x: Axis {
            label: "KL to the start, nats per response".into(),
            range: [0.0, 1.03 * furthest],
            ticks: Vec::new(),
        },
        y: Axis { label: quantity.heading().into(), range, ticks: Vec::new() },
        level,
        series,
        over_steps: false,
    }
}

/// Where neither side wins.
fn level(quantity: Quantity) -> Option<(f64, &'static str)> {
    matches!(quantity, Quantity::ReferenceWinRate | Quantity::WinRate).then_some((50.0, "even"))
}

#[cfg(test)]
mod tests;
