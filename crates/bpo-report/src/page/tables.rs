//! Numbers of the whole run and of its phases.
use bpo_annotate::Statistics;
use serde::Deserialize;
use serde_json::Value;

use super::{add, escape::escaped};
use crate::{Phase, Record};

/// What the run came to.
pub(super) fn summary(record: &Record, page: &mut String) {
    let Some(finished) = &record.finished else { return };
    page.push_str("<h2>Summary</h2>\n");
    let whole = |key: &str| finished.get(key).and_then(Value::as_u64);
    let mut facts = Vec::new();
    let told = |count| match (record.setting("outcomes"), record.setting("tuning")) {
        (Some(_), _) => format!("{count} texts trained on"),
        (_, Some(_)) => format!("{count} training pairs"),
        _ => format!("{count} pairs trained on"),
    };
    facts.extend(whole("pairs").map(told));
    let sampled = whole("sampled").filter(|sampled| *sampled > 0);
    facts.extend(sampled.map(|sampled| format!("{sampled} completions sampled")));
    facts.extend(finished.get("annotator").and_then(Value::as_str).map(|name| format!("annotator {}", escaped(name))));
    facts.extend(
        finished.get("loss").and_then(Value::as_f64).map(|loss| format!("mean loss of the last steps {loss:.4}")),
    );
    facts.extend(dropped(finished));
    add(page, format_args!("<p>{}</p>\n", facts.join("; ")));
    annotator(finished, page);
    if let Some(evaluation) = finished.get("evaluation").filter(|evaluation| evaluation.is_object()) {
        reward(evaluation, page);
    }
    let rows = rows(finished);
    if whole("eval_prompts").unwrap_or(0) > 0 && !rows.is_empty() {
        let prompts = whole("eval_prompts").unwrap_or(0);
        add(
            page,
            format_args!(
                "<div class=\"wide\"><table>\n<tr><th>on {prompts} held-out prompts</th><th>before</th><th>after</th></tr>\n"
            ),
        );
        for (name, before, after) in rows {
            add(page, format_args!("<tr><td>{name}</td><td>{before}</td><td>{after}</td></tr>\n"));
        }
        page.push_str("</table></div>\n<p class=\"faint\">In brackets: 95 % bootstrap intervals over prompts.</p>\n");
    }
}

/// What the annotator told of itself: questions, changes with the order, how far the members of a panel agree.
fn annotator(finished: &Value, page: &mut String) {
    let told = finished.get("annotator_statistics").and_then(|told| Statistics::deserialize(told).ok());
    let lines = told.map(|told| told.lines()).unwrap_or_default();
    if lines.is_empty() {
        return;
    }
    page.push_str("<ul class=\"faint\">\n");
    for line in lines {
        add(page, format_args!("<li>{}</li>\n", escaped(&line)));
    }
    page.push_str("</ul>\n");
}

/// A reward model on held-out pairs, and how far its confidence can be trusted.
fn reward(evaluation: &Value, page: &mut String) {
    let pairs = evaluation.get("pairs").and_then(Value::as_u64).unwrap_or(0);
    let number = |key: &str, scale: f64, digits: usize| {
        evaluation.get(key).map_or_else(String::new, |value| estimate(value, scale, digits))
    };
    add(
        page,
        format_args!("<div class=\"wide\"><table>\n<tr><th>on {pairs} held-out pairs</th><th>at the end</th></tr>\n"),
    );
    let rows = [
        ("in order, %", number("accuracy", 100.0, 1)),
        ("loss, nats", number("loss", 1.0, 4)),
        ("mean score of the chosen", number("chosen", 1.0, 3)),
        ("mean score of the rejected", number("rejected", 1.0, 3)),
        ("mean margin", number("margin", 1.0, 3)),
        ("expected calibration error", number("ece", 1.0, 3)),
    ];
    for (name, value) in rows {
        add(page, format_args!("<tr><td>{name}</td><td>{value}</td></tr>\n"));
    }
    page.push_str(
        "</table></div>\n<p class=\"faint\">In brackets: the 95 % bootstrap interval over pairs.</p>\n<h3>Calibration</h3>\n\
         <div class=\"wide\"><table>\n<tr><th>confidence from, %</th><th>pairs</th><th>mean confidence, %</th>\
         <th>in order, %</th></tr>\n",
    );
    for bin in evaluation.get("bins").and_then(Value::as_array).into_iter().flatten() {
        let percent = |key: &str| bin.get(key).map_or_else(String::new, |value| estimate(value, 100.0, 1));
        let (from, confidence, accuracy) = (percent("from"), percent("confidence"), percent("accuracy"));
        let pairs = bin.get("pairs").and_then(Value::as_u64).unwrap_or(0);
        add(page, format_args!("<tr><td>{from}</td><td>{pairs}</td><td>{confidence}</td><td>{accuracy}</td></tr>\n"));
    }
    page.push_str(
        "</table></div>\n<p class=\"faint\">Confidence is σ of the distance of a pair's scores. A calibrated model has as many \
         pairs in order as it is confident of.</p>\n",
    );
}

fn dropped(finished: &Value) -> Option<String> {
    let dropped = finished.get("dropped")?.as_object().filter(|dropped| !dropped.is_empty())?;
    let reasons: Vec<String> = dropped.iter().map(|(reason, count)| format!("{} {count}", escaped(reason))).collect();
    Some(format!("did not train: {}", reasons.join(", ")))
}

/// Name, before and after.
fn rows(finished: &Value) -> Vec<(&'static str, String, String)> {
    let mut rows = Vec::new();
    let mut both = |name, key: &str, scale, digits| {
        let Some(pair) = finished.get(key).and_then(Value::as_array) else { return };
        if let [before, after] = pair.as_slice() {
            rows.push((name, estimate(before, scale, digits), estimate(after, scale, digits)));
        }
    };
    both("mean score", "scores", 1.0, 3);
    both("win rate against the references, %", "reference_win_rate", 100.0, 1);
    both("the same at equal lengths, %", "reference_win_rate_length_controlled", 100.0, 1);
    both("response length, tokens", "length", 1.0, 1);
    both("distinct responses, %", "distinct", 100.0, 0);
    let one = |key: &str| finished.get(key).filter(|value| !value.is_null());
    if let Some(wins) = one("win_rate") {
        rows.push(("win rate against the start, %", "50".into(), estimate(wins, 100.0, 1)));
    }
    if let Some(wins) = one("win_rate_length_controlled") {
        rows.push(("the same at equal lengths, %", "50".into(), estimate(wins, 100.0, 1)));
    }
    if let Some(kl) = one("kl") {
        rows.push(("KL to the start, nats", "0".into(), estimate(kl, 1.0, 2)));
    }
    rows
}

/// A number, or a mean with its interval.
fn estimate(value: &Value, scale: f64, digits: usize) -> String {
    let number = |value: Option<&Value>| value.and_then(Value::as_f64).map(|value| scale * value);
    match (number(value.get("mean")), number(value.get("low")), number(value.get("high"))) {
        (Some(mean), Some(low), Some(high)) => format!("{mean:.digits$} [{low:.digits$}, {high:.digits$}]"),
        _ => number(Some(value)).map_or_else(String::new, |value| format!("{value:.digits$}")),
    }
}

/// Means of a phase that are worth a column: key, heading, scale, digits.
const COLUMNS: [(&str, &str, f64, usize); 8] = [
    ("loss", "loss", 1.0, 4),
    ("rewards/margins", "margin", 1.0, 4),
    ("rewards/accuracies", "ranked as judged, %", 100.0, 1),
    ("objective/kl", "KL to reference", 1.0, 2),
    ("objective/entropy", "entropy", 1.0, 1),
    ("objective/scores", "score", 1.0, 3),
    ("collect/length", "length", 1.0, 1),
    ("collect/distinct", "distinct, %", 100.0, 1),
];

/// One row for each phase.
pub(super) fn phases(record: &Record, page: &mut String) {
    let columns: Vec<_> =
        COLUMNS.iter().filter(|(key, ..)| record.phases.iter().any(|phase| phase.means.contains_key(*key))).collect();
    let judged = record.phases.iter().any(|phase| phase.preferred + phase.undecided > 0);
    page.push_str("<h2>Phases of data collection</h2>\n<div class=\"wide\"><table>\n<tr><th>phase</th><th>steps</th>");
    if judged {
        page.push_str("<th>preferences</th><th>no preference</th>");
    }
    columns.iter().for_each(|(_, heading, ..)| add(page, format_args!("<th>{heading}</th>")));
    page.push_str("</tr>\n");
    for phase in &record.phases {
        let Phase { numbers: [first, last], steps, preferred, undecided, .. } = phase;
        let number = if first == last { format!("{}", first + 1) } else { format!("{}–{}", first + 1, last + 1) };
        add(page, format_args!("<tr><td>{number}</td><td>{}–{}</td>", steps[0], steps[1]));
        if judged {
            add(page, format_args!("<td>{preferred}</td><td>{undecided}</td>"));
        }
        for (key, _, scale, digits) in &columns {
            let mean = phase.means.get(*key).map_or_else(String::new, |mean| format!("{:.*}", *digits, scale * mean));
            add(page, format_args!("<td>{mean}</td>"));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n<p class=\"faint\">Means over the steps of a phase.</p>\n");
}
