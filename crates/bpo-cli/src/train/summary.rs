//! The end of a run in a screenful.
use std::path::Path;

use bpo_train::{Interval, Recipe, Report};

use crate::{
    failure::Failure,
    out::{Out, printable},
};

/// Width of text columns, where the terminal has it.
const WIDTH: usize = 92;
/// Columns below which a terminal is taken to fold lines as it likes.
const NARROWEST: usize = 40;

/// Prints what the run came to.
pub fn print(report: &Report, folder: &Path, recipe: &Recipe, out: &mut Out) -> Result<(), Failure> {
    let headline = format!(
        "{} steps, {} pairs trained on ({} loss, beta {}, annotator {})",
        report.steps, report.pairs, recipe.loss_type, recipe.beta, report.annotator
    );
    print_under(&headline, report, folder, out)
}

/// Prints what a run of any kind came to under its own headline.
pub fn print_under(headline: &str, report: &Report, folder: &Path, out: &mut Out) -> Result<(), Failure> {
    out.line(&format!("\n{headline}"))?;
    if !report.dropped.is_empty() {
        let dropped: Vec<String> = report.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        out.line(&format!("did not train: {}", dropped.join(", ")))?;
    }
    for line in report.annotator_statistics.lines() {
        out.line(&line)?;
    }
    if report.eval_prompts > 0 {
        table(report, out)?;
        samples(report, out)?;
    }
    out.line(&format!("\n{}: {}", report.output, folder.join(&report.output).display()))?;
    out.line(&format!("metrics: {}", folder.join("metrics.jsonl").display()))
}

fn table(report: &Report, out: &mut Out) -> Result<(), Failure> {
    out.line(&format!("\non {} held-out prompts{:>24}{:>26}", report.eval_prompts, "before", "after"))?;
    let mut row = |name: &str, before: String, after: String| out.line(&format!("  {name:<26}{before:>24}{after:>26}"));
    if let Some([before, after]) = &report.scores {
        row("mean score", interval(before, 1.0, 3), interval(after, 1.0, 3))?;
    }
    if let Some([before, after]) = &report.reference_win_rate {
        row("win rate vs references, %", interval(before, 100.0, 1), interval(after, 100.0, 1))?;
    }
    if let Some(wins) = &report.win_rate {
        row("win rate vs start, %", "50".into(), interval(wins, 100.0, 1))?;
    }
    if let Some(wins) = &report.win_rate_length_controlled {
        row("  at equal lengths, %", "50".into(), interval(wins, 100.0, 1))?;
    }
    if let Some(kl) = report.kl {
        row("KL to start, nats", "0".into(), format!("{kl:.2}"))?;
    }
    row("response length, tokens", format!("{:.1}", report.length[0]), format!("{:.1}", report.length[1]))?;
    let percent = |share: f64| format!("{:.0}", 100.0 * share);
    row("distinct responses, %", percent(report.distinct[0]), percent(report.distinct[1]))
}

fn samples(report: &Report, out: &mut Out) -> Result<(), Failure> {
    for pair in &report.samples {
        let [before, after] = match pair.scores {
            Some(scores) => scores.map(|score| format!("{score:+.2}")),
            None => ["".into(), "".into()],
        };
        out.line("")?;
        for (label, text) in [
            ("prompt", &pair.prompt),
            (&format!("before {before}"), &pair.before),
            (&format!("after  {after}"), &pair.after),
        ] {
            wrapped(label, text, out)?;
        }
    }
    Ok(())
}

/// `text` folded at words behind a label; models wrote it, and it shall not steer the terminal.
fn wrapped(label: &str, text: &str, out: &mut Out) -> Result<(), Failure> {
    let mut line = format!("  {label:<13} ");
    let indent = line.chars().count();
    let width = out.columns().filter(|columns| *columns >= NARROWEST).map_or(WIDTH, |columns| WIDTH.min(columns));
    for word in printable(text).split_whitespace() {
        if line.chars().count() > indent && line.chars().count() + word.chars().count() >= width {
            out.line(line.trim_end())?;
            line = " ".repeat(indent);
        }
        line.push_str(word);
        line.push(' ');
    }
    out.line(line.trim_end())
}

fn interval(interval: &Interval, scale: f64, digits: usize) -> String {
    let Interval { mean, low, high } = interval;
    format!("{:.digits$} [{:.digits$}, {:.digits$}]", mean * scale, low * scale, high * scale)
}
