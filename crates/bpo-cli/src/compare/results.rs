//! From the reports of finished cells to what the methods come to over seeds.
use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    cell::Cell,
    grid::Grid,
    quantity::{Point, Quantity},
    statistics::Estimate,
};
use crate::failure::{Failure, Kind, io_failure};

/// The parts of `finished.json` that are compared.
#[derive(Deserialize)]
struct Report {
    steps: u64,
    pairs: u64,
    annotator: String,
    eval_prompts: usize,
    scores: Option<[Estimate; 2]>,
    reference_win_rate: Option<[Estimate; 2]>,
    win_rate: Option<Estimate>,
    kl: Option<f64>,
    length: [f64; 2],
    distinct: [f64; 2],
    /// Missing in runs that were evaluated at their ends only.
    #[serde(default)]
    curve: Vec<Point>,
}

impl Report {
    /// The curve from step 0, with what holds there by definition.
    fn curve(self) -> Vec<Point> {
        let mut curve = if self.curve.len() > 1 { self.curve } else { self.ends().into() };
        let has = |quantity: Quantity| curve.last().and_then(|last| quantity.of(last)).is_some();
        let (has_kl, has_wins) = (has(Quantity::Kl), has(Quantity::WinRate));
        if let Some(start) = curve.first_mut().filter(|start| start.step == 0) {
            start.kl = start.kl.or(has_kl.then(|| Estimate::known(0.0)));
            start.win_rate = start.win_rate.or(has_wins.then(|| Estimate::known(0.5)));
        }
        curve
    }

    /// The start and the end.
    fn ends(&self) -> [Point; 2] {
        let end = |index: usize| Point {
            step: if index == 0 { 0 } else { self.steps },
            reference_win_rate: self.reference_win_rate.map(|rates| rates[index]),
            score: self.scores.map(|scores| scores[index]),
            length: Some(Estimate::known(self.length[index])),
            distinct: Some(Estimate::known(self.distinct[index])),
            ..Point::default()
        };
        [end(0), Point { win_rate: self.win_rate, kl: self.kl.map(Estimate::known), ..end(1) }]
    }
}

/// What a finished cell came to.
#[derive(Debug, Clone, Serialize)]
pub struct CellResult {
    /// Its seed.
    pub seed: u64,
    /// Steps done.
    pub steps: u64,
    /// Pairs trained on.
    pub pairs: u64,
    /// Seconds that its steps took, evaluation apart.
    pub seconds: f64,
    /// All evaluations.
    pub curve: Vec<Point>,
}

/// What a method came to over its seeds.
#[derive(Debug, Clone, Serialize)]
pub struct MethodResult {
    /// Its name.
    pub name: String,
    /// Its values of the keys in which the methods differ.
    pub settings: BTreeMap<String, toml::Value>,
    /// Mean number of pairs trained on.
    pub pairs: f64,
    /// Mean seconds of a cell's steps.
    pub seconds: f64,
    /// Means over seeds.
    pub curve: Vec<Point>,
    /// One per seed.
    pub cells: Vec<CellResult>,
}

impl MethodResult {
    /// A quantity after the last step, in the unit of its heading.
    pub fn last(&self, quantity: Quantity) -> Option<Estimate> {
        Some(quantity.of(self.curve.last()?)?.scaled(quantity.scale()))
    }
}

/// How much better one method is than another on the seeds of both, by [`Results::outcome`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The method with the higher mean.
    pub better: String,
    /// The other.
    pub worse: String,
    /// Mean of the seeds' differences with its paired t interval, in percentage points.
    pub difference: Estimate,
    /// Seeds in which `better` is ahead.
    pub won: usize,
    /// Seeds.
    pub seeds: usize,
}

/// What a comparison came to.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// The annotator's name.
    pub annotator: String,
    /// Held-out prompts of a cell.
    pub eval_prompts: usize,
    /// The win rate that methods are ranked by: against the references, where all cells have them.
    pub outcome: Quantity,
    /// In the order of the grid.
    pub methods: Vec<MethodResult>,
    /// Every pair of methods.
    pub differences: Vec<Difference>,
}

impl Results {
    /// Reads the cells of `grid`, all of which are finished.
    ///
    /// # Errors
    /// [`Kind::Run`] for a damaged report, and one of a run without anything to compare.
    pub fn read(grid: &Grid, cells: &[Cell<'_>]) -> Result<Self, Failure> {
        let (mut methods, mut annotator, mut eval_prompts) = (Vec::new(), String::new(), 0);
        for method in &grid.methods {
            let mut results = Vec::new();
            for cell in cells.iter().filter(|cell| std::ptr::eq(cell.method, method)) {
                let report: Report = parsed(&cell.folder.join("finished.json"), |text| serde_json::from_str(text))?;
                (annotator, eval_prompts) = (report.annotator.clone(), report.eval_prompts);
                results.push(CellResult {
                    seed: cell.seed,
                    steps: report.steps,
                    pairs: report.pairs,
                    seconds: seconds(&cell.folder)?,
                    curve: report.curve(),
                });
            }
            methods.push(summarised(method.name.clone(), method.settings.clone(), results));
        }
        let has_references = methods.iter().all(|method| method.last(Quantity::ReferenceWinRate).is_some());
        let outcome = if has_references { Quantity::ReferenceWinRate } else { Quantity::WinRate };
        let differences = differences(&methods, outcome);
        Ok(Self { annotator, eval_prompts, outcome, methods, differences })
    }
}

fn parsed<T>(path: &Path, parse: impl Fn(&str) -> serde_json::Result<T>) -> Result<T, Failure> {
    let text = fs::read_to_string(path).map_err(|error| io_failure(path, &error))?;
    parse(&text).map_err(|error| Failure::message(Kind::Run, format!("{}: damaged: {error}", path.display())))
}

/// Σ of the steps' seconds.
fn seconds(folder: &Path) -> Result<f64, Failure> {
    fn line<T: DeserializeOwned>(line: &str) -> serde_json::Result<T> {
        serde_json::from_str(line)
    }
    let of = |value: Value| value.get("time/step").and_then(Value::as_f64).unwrap_or(0.0);
    parsed(&folder.join("metrics.jsonl"), |text| text.lines().map(|text| line(text).map(of)).sum())
}

fn summarised(name: String, settings: BTreeMap<String, toml::Value>, cells: Vec<CellResult>) -> MethodResult {
    let mean = |of: &dyn Fn(&CellResult) -> f64| cells.iter().map(of).sum::<f64>() / cells.len() as f64;
    let at = |step: u64| cells.iter().filter_map(move |cell| cell.curve.iter().find(|point| point.step == step));
    let curve = cells.first().into_iter().flat_map(|cell| &cell.curve).filter_map(|point| {
        let points: Vec<&Point> = at(point.step).collect();
        (points.len() == cells.len()).then(|| Point::over(&points))
    });
    MethodResult {
        name,
        settings,
        pairs: mean(&|cell| cell.pairs as f64),
        seconds: mean(&|cell| cell.seconds),
        curve: curve.collect(),
        cells,
    }
}

/// Of every pair of methods, the better one first.
fn differences(methods: &[MethodResult], outcome: Quantity) -> Vec<Difference> {
    let pairs = methods.iter().enumerate().flat_map(|(i, a)| methods[i + 1..].iter().map(move |b| (a, b)));
    pairs.filter_map(|(a, b)| difference(a, b, outcome)).collect()
}

fn difference(a: &MethodResult, b: &MethodResult, outcome: Quantity) -> Option<Difference> {
    let end = |cell: &CellResult| outcome.of(cell.curve.last()?).map(|rate| rate.mean * outcome.scale());
    let shared = a.cells.iter().filter_map(|ours| {
        let theirs = b.cells.iter().find(|theirs| theirs.seed == ours.seed)?;
        Some(end(ours)? - end(theirs)?)
    });
    let mut values: Vec<f64> = shared.collect();
    let is_behind = Estimate::of(&values)?.mean < 0.0;
    if is_behind {
        values.iter_mut().for_each(|value| *value = -*value);
    }
    let (better, worse) = if is_behind { (b, a) } else { (a, b) };
    Some(Difference {
        better: better.name.clone(),
        worse: worse.name.clone(),
        difference: Estimate::of(&values)?,
        won: values.iter().filter(|value| **value > 0.0).count(),
        seeds: values.len(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cell(seed: u64, rate: f64) -> CellResult {
        let end = Point { step: 4, win_rate: Some(Estimate::known(rate)), ..Point::default() };
        CellResult { seed, steps: 4, pairs: 8, seconds: 1.5, curve: vec![Point::default(), end] }
    }

    fn method(name: &str, rates: &[f64]) -> MethodResult {
        let cells = rates.iter().zip(1..).map(|(&rate, seed)| cell(seed, rate)).collect();
        summarised(name.into(), BTreeMap::new(), cells)
    }

    #[test]
    fn differences_are_paired_and_name_the_better_method_first() {
        let methods = [method("a", &[0.50, 0.60, 0.55]), method("b", &[0.60, 0.64, 0.55])];
        let found = differences(&methods, Quantity::WinRate);
        let [Difference { better, worse, difference, won, seeds }] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((better.as_str(), worse.as_str(), *won, *seeds), ("b", "a", 2, 3));
        // 10, 4 and 0 points: mean 14/3, s = 5.0332, half = 4.302653 · s/√3
        assert!((difference.mean - 14.0 / 3.0).abs() < 1e-9);
        assert!((difference.high.unwrap() - difference.mean - 12.503).abs() < 1e-3, "{difference:?}");
    }

    #[test]
    fn only_shared_seeds_are_paired() {
        let (a, mut b) = (method("a", &[0.5, 0.6]), method("b", &[0.4, 0.7]));
        b.cells[1].seed = 9;
        let found = difference(&a, &b, Quantity::WinRate).unwrap();
        assert_eq!((found.seeds, found.difference.low), (1, None));
        b.cells[0].seed = 8;
        assert_eq!(difference(&a, &b, Quantity::WinRate), None);
    }

    #[test]
    fn a_method_is_its_mean_over_seeds_in_percent() {
        let last = method("a", &[0.5, 0.6]).last(Quantity::WinRate).unwrap();
        assert!((last.mean - 55.0).abs() < 1e-9 && last.low.unwrap() < 50.0);
        assert_eq!(method("a", &[0.5]).last(Quantity::WinRate), Some(Estimate::known(50.0)));
        assert_eq!(method("a", &[0.5]).last(Quantity::Kl), None);
    }

    fn report(curve: &Value) -> Vec<Point> {
        let interval = json!({"mean": 0.6, "low": 0.5, "high": 0.7});
        let report = json!({
            "steps": 6, "pairs": 5, "annotator": "x", "eval_prompts": 4, "scores": null,
            "reference_win_rate": [interval, interval], "win_rate": interval, "kl": 2.0,
            "length": [10.0, 12.0], "distinct": [1.0, 0.5], "curve": curve, "samples": [],
        });
        serde_json::from_value::<Report>(report).unwrap().curve()
    }

    #[test]
    fn a_report_without_a_curve_has_its_two_ends() {
        let curve = report(&json!([]));
        assert_eq!(curve.iter().map(|point| point.step).collect::<Vec<_>>(), [0, 6]);
        assert_eq!(curve.iter().map(|point| point.kl.unwrap().mean).collect::<Vec<_>>(), [0.0, 2.0]);
        assert_eq!(curve.iter().map(|point| point.win_rate.unwrap().mean).collect::<Vec<_>>(), [0.5, 0.6]);
        assert_eq!(curve[1].distinct, Some(Estimate::known(0.5)));
    }

    #[test]
    fn a_curve_is_read_as_reports_write_it() {
        let point = |step: u64| {
            json!({"step": step, "score": null, "win_rate": {"mean": 0.7, "low": 0.6, "high": 0.8},
            "reference_win_rate": null, "kl": 1.5, "length": 11.0, "distinct": 0.9})
        };
        let start = json!({"step": 0, "length": 10.0, "distinct": 1.0});
        let curve = report(&json!([start, point(2), point(4), point(6)]));
        assert_eq!(curve.len(), 4);
        assert_eq!((curve[0].kl, curve[0].win_rate), (Some(Estimate::known(0.0)), Some(Estimate::known(0.5))));
        assert_eq!((curve[3].kl, curve[3].win_rate.unwrap().high), (Some(Estimate::known(1.5)), Some(0.8)));
    }
}
