//! The page: everything about a run in one file that needs nothing else.
mod escape;
mod samples;
mod tables;

use std::fmt::Write;

use crate::{Phase, Record, figures, plot::Histogram};
use escape::escaped;

/// Nothing but the page's own style is ever loaded or run, whatever got into the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
const STYLE: &str = include_str!("style.css");

/// The page, as HTML. `how` are the commands that make such a run again.
pub fn page(record: &Record, how: &[String]) -> String {
    let name = escaped(&record.name);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{name}: report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    heading(record, &name, &mut page);
    tables::summary(record, &mut page);
    curves(record, &mut page);
    if has_phases(record) {
        tables::phases(record, &mut page);
        histograms(&record.phases, &mut page);
    }
    samples::held_out(record, &mut page);
    samples::pairs(record, &mut page);
    settings(record, how, &mut page);
    page.push_str("</body>\n</html>\n");
    page
}

/// Adds to the page; writing to a string does not fail.
fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(text);
}

fn has_phases(record: &Record) -> bool {
    record.metrics.iter().any(|line| line.contains_key("phase"))
}

fn heading(record: &Record, name: &str, page: &mut String) {
    let steps = record.steps();
    let state = if record.finished.is_some() {
        format!("Finished. Steps: {steps}.")
    } else {
        let total = record.setting("max_steps").filter(|total| total != "0");
        let of = total.map_or_else(String::new, |total| format!(" of {}", escaped(&total)));
        format!("Not finished. Steps so far: {steps}{of}.")
    };
    let shown = [
        ("loss_type", "loss"),
        ("causal_estimator", "estimator"),
        ("beta", "β"),
        ("reference", "reference"),
        ("collection_phases", "collection phases"),
        ("ensemble_size", "ensemble of"),
        ("model", "model"),
    ];
    let is_telling = |(key, value): &(&str, String)| *key != "ensemble_size" || value != "1";
    let facts = shown.iter().filter_map(|(key, name)| Some((*key, record.setting(key)?, *name)));
    let facts = facts.filter(|(key, value, _)| is_telling(&(key, value.clone())));
    let facts: Vec<String> = facts.map(|(_, value, name)| format!("{name} {}", escaped(&value))).collect();
    add(page, format_args!("<h1>{name}</h1>\n<p>{state}</p>\n<p class=\"faint\">{}</p>\n", facts.join(" · ")));
}

fn curves(record: &Record, page: &mut String) {
    let figures = figures(record);
    if figures.is_empty() {
        page.push_str("<p>No step is done yet.</p>\n");
        return;
    }
    page.push_str("<h2>Curves</h2>\n");
    let boundaries = match record.boundaries.len() {
        0 | 1 => "",
        _ => " Dotted uprights are where a phase of data collection begins (none are drawn where there are too many).",
    };
    add(
        page,
        format_args!(
            "<p class=\"faint\">Pale: every step; strong: means of 30 stretches. Bars at points: 95 % bootstrap intervals \
             over prompts.{boundaries}</p>\n<div class=\"grid\">\n"
        ),
    );
    for figure in figures {
        add(page, format_args!("<figure class=\"card\" style=\"margin:0\">{}</figure>\n", figure.panel.inline()));
    }
    page.push_str("</div>\n");
}

fn histograms(phases: &[Phase], page: &mut String) {
    let has_scores = |phase: &&Phase| phase.scores.iter().any(|scores| !scores.is_empty());
    let scored: Vec<&Phase> = phases.iter().filter(has_scores).collect();
    if scored.is_empty() {
        return;
    }
    let range = Histogram::range(scored.iter().flat_map(|phase| phase.scores.iter().flatten()).copied());
    page.push_str(
        "<h2>Scores of judged pairs, by phase</h2>\n<p class=\"faint\">Shares of\
         <i class=\"key\" style=\"background:var(--c0)\"></i>preferred completions\
         <i class=\"key\" style=\"background:var(--c1)\"></i>rejected ones; every drawing has the same axis.</p>\n\
         <div class=\"grid narrow\">\n",
    );
    for phase in scored {
        let [first, second] = phase.scores.clone();
        let histogram = Histogram { title: phase.name(), first, second, range };
        add(page, format_args!("<figure class=\"card\" style=\"margin:0\">{}</figure>\n", histogram.inline()));
    }
    page.push_str("</div>\n");
}

fn settings(record: &Record, how: &[String], page: &mut String) {
    page.push_str("<h2>How to make it again</h2>\n");
    let commands: Vec<String> = how.iter().map(|line| escaped(line)).collect();
    add(page, format_args!("<pre>{}</pre>\n", commands.join("\n")));
    if !record.inputs.is_empty() {
        page.push_str("<h3>What it read</h3>\n<p class=\"faint\">BLAKE3 hashes, and the device.</p>\n<pre>");
        for (what, hash) in &record.inputs {
            add(page, format_args!("{}: {}\n", escaped(what), escaped(hash)));
        }
        page.push_str("</pre>\n");
    }
    add(page, format_args!("<h2>Effective recipe</h2>\n<pre>{}</pre>\n", escaped(&record.recipe.0)));
}

#[cfg(test)]
mod tests;
