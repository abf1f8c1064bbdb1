//! The curves of a run.
use serde_json::Value;

use crate::{
    Evaluation, Record,
    plot::{Line, Panel},
};

/// A curve, or several on one axis.
#[derive(Debug, Clone)]
pub struct Figure {
    /// File name without extension.
    pub name: String,
    /// The drawing.
    pub panel: Panel,
}

/// A figure of metrics.
struct Kind {
    name: &'static str,
    title: &'static str,
    /// Keys of the lines with their names.
    lines: &'static [(&'static str, &'static str)],
    scale: f64,
    limits: Option<[f64; 2]>,
    level: Option<f64>,
}

impl Kind {
    /// In the page of `record`: a reward model has scores of its own, and no policy.
    fn title_in(&self, record: &Record) -> &'static str {
        match self.name {
            "margins" if record.setting("tuning").is_some() => "Scores",
            "accuracies" if record.setting("tuning").is_some() => "Pairs of a step in order, %",
            _ => self.title,
        }
    }
}

const fn plain(name: &'static str, title: &'static str, lines: &'static [(&'static str, &'static str)]) -> Kind {
    Kind { name, title, lines, scale: 1.0, limits: None, level: None }
}

const fn share(name: &'static str, title: &'static str, lines: &'static [(&'static str, &'static str)]) -> Kind {
    Kind { name, title, lines, scale: 100.0, limits: Some([0.0, 100.0]), level: None }
}

/// In the order of the page.
const KINDS: [Kind; 16] = [
    plain("loss", "Loss", &[("loss", "")]),
    plain(
        "margins",
        "Implicit rewards, β · log-ratio",
        &[("rewards/margins", "margin"), ("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")],
    ),
    Kind {
        level: Some(50.0),
        ..share("accuracies", "Pairs that the policy ranks as judged, %", &[("rewards/accuracies", "")])
    },
    plain("kl", "KL to the reference, nats per response (estimate)", &[("objective/kl", "")]),
    plain("entropy", "Entropy, nats per response", &[("objective/entropy", "")]),
    plain(
        "scores",
        "Annotator's scores",
        &[("objective/scores", "mean"), ("objective/scores_margin", "gap in a pair")],
    ),
    plain("length", "Response length, tokens", &[("collect/length", "")]),
    share("distinct", "Distinct responses of a step, %", &[("collect/distinct", "")]),
    share("finished", "Responses that end by themselves, %", &[("val/contain_eos_token", "")]),
    plain("logps", "Log-prob of responses, nats", &[("logps/chosen", "chosen"), ("logps/rejected", "rejected")]),
    plain(
        "value",
        "Estimated value of the policy",
        &[("causal/value_self_normalised", "self-normalised"), ("causal/value_ipw", "ipw")],
    ),
    plain("effective_samples", "Effective samples of a step", &[("causal/effective_samples", "")]),
    plain("gradient", "Gradient norm before clipping", &[("grad_norm", "")]),
    plain("learning_rate", "Learning rate", &[("learning_rate", "")]),
    plain("speed", "Tokens per second", &[("train/tokens_per_second", "")]),
    plain(
        "time",
        "Seconds per step",
        &[("time/step", "step"), ("time/sample", "sample"), ("time/judge", "judge"), ("time/train", "train")],
    ),
];

/// All curves that the run has the numbers for; those on held-out prompts first.
pub fn figures(record: &Record) -> Vec<Figure> {
    let metrics = KINDS.iter().filter_map(|kind| {
        let lines: Vec<Line> =
            kind.lines.iter().filter_map(|(key, name)| line(record, key, name, kind.scale)).collect();
        let panel = Panel { level: kind.level, limits: kind.limits, ..panel(record, kind.title_in(record), lines)? };
        Some(Figure { name: kind.name.to_owned(), panel })
    });
    held_out(record).into_iter().chain(metrics).collect()
}

fn panel(record: &Record, title: &str, lines: Vec<Line>) -> Option<Panel> {
    (!lines.is_empty()).then(|| Panel {
        title: title.to_owned(),
        lines,
        boundaries: record.boundaries.clone(),
        end: record.steps() as f64,
        ..Panel::default()
    })
}

fn line(record: &Record, key: &str, name: &str, scale: f64) -> Option<Line> {
    let points: Vec<[f64; 2]> = record.series(key).into_iter().map(|[step, value]| [step, scale * value]).collect();
    (!points.is_empty()).then(|| Line { name: name.to_owned(), points, ..Line::default() })
}

/// A quantity of the evaluations.
struct Quantity {
    /// In the summary.
    key: &'static str,
    /// Of its line.
    name: &'static str,
    /// From an evaluation and the one at the start.
    of: fn(&Evaluation, &Evaluation) -> Option<f64>,
    /// What it is at the start, where that needs no measuring.
    start: Option<f64>,
}

/// Curves over the evaluations on held-out prompts.
fn held_out(record: &Record) -> Vec<Figure> {
    let quantity = |key, name, of, start| Quantity { key, name, of, start };
    let wins = [
        quantity("reference_win_rate", "against the references", |now, _| now.reference_win_rate(), None),
        quantity("win_rate", "against the start", |now, start| now.win_rate(start), Some(0.5)),
        // The summary has it; of a run without one it is not computed anew.
        quantity("win_rate_length_controlled", "the start, equal lengths", |_, _| None, Some(0.5)),
    ];
    let scores = [quantity("score", "", |now, _| now.score(), None)];
    let kl = [quantity("kl", "", |now, _| now.kl, Some(0.0))];
    let length = [quantity("length", "", |now, _| now.length(), None)];
    let distinct = [quantity("distinct", "", |now, _| now.distinct(), None)];
    let lines = |quantities: &[Quantity], scale| -> Vec<Line> {
        quantities.iter().filter_map(|quantity| evaluated(record, quantity, scale)).collect()
    };
    let named = |name: &str, panel: Option<Panel>| panel.map(|panel| Figure { name: name.to_owned(), panel });
    let win_rate = panel(record, "Win rate on held-out prompts, %", lines(&wins, 100.0)).map(|panel| Panel {
        level: Some(50.0),
        limits: Some([0.0, 100.0]),
        ..panel
    });
    let figures = [
        named("win_rate", win_rate),
        named("held_out_score", panel(record, "Score on held-out prompts", lines(&scores, 1.0))),
        named("held_out_kl", panel(record, "KL to the start on held-out prompts, nats", lines(&kl, 1.0))),
        named("held_out_length", panel(record, "Length on held-out prompts, tokens", lines(&length, 1.0))),
        named(
            "held_out_distinct",
            panel(record, "Distinct responses on held-out prompts, %", lines(&distinct, 100.0))
                .map(|panel| Panel { limits: Some([0.0, 100.0]), ..panel }),
        ),
    ];
    figures.into_iter().flatten().collect()
}

/// The points of the summary, which have intervals; of a run without one, those of its journal.
fn evaluated(record: &Record, quantity: &Quantity, scale: f64) -> Option<Line> {
    let Quantity { key, name, of, start } = quantity;
    let mut line = Line { name: (*name).to_owned(), ..Line::default() };
    let curve = record.finished.as_ref().and_then(|finished| finished.get("curve")?.as_array());
    for point in curve.into_iter().flatten() {
        let number = |value: Option<&Value>| value.and_then(Value::as_f64).map(|value| scale * value);
        let (Some(step), Some(value)) = (number_of(point, "step"), point.get(*key)) else { continue };
        if let Some(mean) = number(value.get("mean")).or(number(Some(value))) {
            line.points.push([step, mean]);
            line.intervals.push([number(value.get("low")).unwrap_or(mean), number(value.get("high")).unwrap_or(mean)]);
        }
    }
    if let (None, Some((_, first))) = (curve, record.evaluations.first()) {
        let values = record.evaluations.iter().filter_map(|(step, now)| Some([*step as f64, scale * of(now, first)?]));
        line.points = values.collect();
        line.intervals = line.points.iter().map(|[_, value]| [*value; 2]).collect();
    }
    if let (Some([step, _]), Some(start)) = (line.points.first(), start)
        && *step > 0.0
    {
        line.points.insert(0, [0.0, scale * start]);
        line.intervals.insert(0, [scale * start; 2]);
    }
    (line.points.len() > 1).then_some(line)
}

fn number_of(point: &Value, key: &str) -> Option<f64> {
    point.get(key)?.as_f64()
}
