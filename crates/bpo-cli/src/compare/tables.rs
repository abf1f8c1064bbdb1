//! Results as text: for a terminal, as Markdown, as CSV.
use std::collections::BTreeSet;

use super::{
    grid::plain,
    plot::Figure,
    quantity::{Point, Quantity},
    results::{CellResult, Difference, MethodResult, Results},
    statistics::Estimate,
};

/// Whether quantities are shown with their intervals.
type WithInterval = fn(Quantity) -> bool;

impl Results {
    /// Methods and their differences, for a terminal: intervals where decisions are made.
    pub fn lines(&self) -> Vec<String> {
        let is_rate: WithInterval = |quantity| matches!(quantity, Quantity::ReferenceWinRate | Quantity::WinRate);
        let mut lines = vec![self.headline(), String::new()];
        lines.extend(aligned(&self.table(Quantity::short, is_rate)));
        if !self.differences.is_empty() {
            let what = self.outcome.heading().trim_end_matches(", %");
            lines.extend([String::new(), format!("difference in {what}, percentage points")]);
            let rows: Vec<Vec<String>> = self.differences.iter().map(|difference| difference.row().to_vec()).collect();
            lines.extend(aligned(&rows));
        }
        lines
    }

    /// What was compared, in a sentence.
    fn headline(&self) -> String {
        let seeds = self.methods.iter().map(|method| method.cells.len()).max().unwrap_or(0);
        let intervals = match seeds {
            1 => "with 95 % bootstrap intervals over prompts",
            _ => "means over seeds with 95 % t intervals",
        };
        let (methods, seeds) = (counted(self.methods.len(), "method"), counted(seeds, "seed"));
        let Self { eval_prompts, annotator, .. } = self;
        format!("{methods}, {seeds}, {eval_prompts} held-out prompts, annotator {annotator}; {intervals}")
    }

    /// A heading and a row per method; a quantity that nothing has is left out.
    fn table(&self, name: fn(Quantity) -> &'static str, with_interval: WithInterval) -> Vec<Vec<String>> {
        let known = |quantity: &Quantity| self.methods.iter().any(|method| method.last(*quantity).is_some());
        let quantities: Vec<Quantity> = Quantity::ALL.into_iter().filter(known).collect();
        let mut heading = vec!["method".to_owned()];
        heading.extend(quantities.iter().map(|&quantity| name(quantity).to_owned()));
        heading.extend(["pairs".to_owned(), "seconds".to_owned()]);
        let row = |method: &MethodResult| {
            let mut row = vec![method.name.clone()];
            row.extend(quantities.iter().map(|&quantity| shown(method, quantity, with_interval(quantity))));
            row.extend([format!("{:.0}", method.pairs), format!("{:.1}", method.seconds)]);
            row
        };
        std::iter::once(heading).chain(self.methods.iter().map(row)).collect()
    }

    /// Everything, for people, with the figures beside it.
    pub fn markdown(&self, command: &str, figures: &[Figure]) -> String {
        let mut text = format!("# Comparison\n\n{}.\n\nMade by\n\n    {command}\n\n## At the end\n\n", self.headline());
        text.push_str(&piped(&self.table(Quantity::heading, |_| true)));
        text.push_str(
            "\nPairs are those trained on, ties apart; seconds are those of a cell's steps, evaluation apart.\n",
        );
        if !self.differences.is_empty() {
            let mut rows = vec![["", "difference, percentage points", "seeds won"].map(str::to_owned).to_vec()];
            rows.extend(self.differences.iter().map(|difference| difference.row().to_vec()));
            let what = self.outcome.heading().trim_end_matches(", %");
            text.push_str(&format!("\n## Differences in {what}\n\n{}", piped(&rows)));
            text.push_str(
                "\nPaired by seed. The intervals are each for itself: among many, some miss the truth by chance.\n",
            );
        }
        text.push_str("\n## On the way\n");
        for Figure { title, file, .. } in figures {
            text.push_str(&format!("\n![{title}]({file})\n"));
        }
        let settings = self.settings();
        if settings[0].len() > 1 {
            text.push_str(&format!("\n## The methods\n\n{}", piped(&settings)));
        }
        text
    }

    /// The keys in which methods differ, and their values.
    fn settings(&self) -> Vec<Vec<String>> {
        let keys = self.keys();
        let heading = std::iter::once("method".to_owned()).chain(keys.iter().map(|key| format!("`{key}`"))).collect();
        let row = |method: &MethodResult| {
            std::iter::once(method.name.clone()).chain(keys.iter().map(|key| setting(method, key))).collect()
        };
        std::iter::once(heading).chain(self.methods.iter().map(row)).collect()
    }

    fn keys(&self) -> Vec<&String> {
        let keys: BTreeSet<&String> = self.methods.iter().flat_map(|method| method.settings.keys()).collect();
        keys.into_iter().collect()
    }

    /// One row per cell, in the units of the reports.
    pub fn csv(&self) -> String {
        let keys = self.keys();
        let mut heading: Vec<String> = ["method", "seed", "steps", "pairs", "seconds"].map(str::to_owned).to_vec();
        heading.extend(keys.iter().map(|key| (*key).clone()));
        for key in Quantity::ALL.map(Quantity::key) {
            heading.extend(["start", "end", "end_low", "end_high"].map(|end| format!("{key}_{end}")));
        }
        let mut text = record(&heading);
        for method in &self.methods {
            for cell in &method.cells {
                let CellResult { seed, steps, pairs, seconds, curve } = cell;
                let mut row = vec![method.name.clone(), seed.to_string(), steps.to_string(), pairs.to_string()];
                row.push(format!("{seconds:.1}"));
                row.extend(keys.iter().map(|key| setting(method, key)));
                row.extend(Quantity::ALL.into_iter().flat_map(|quantity| ends(quantity, curve)));
                text.push_str(&record(&row));
            }
        }
        text
    }
}

impl Difference {
    /// Who, by how much, how often.
    fn row(&self) -> [String; 3] {
        let Self { better, worse, difference, won, seeds } = self;
        let sign = if difference.mean > 0.0 { "+" } else { "" };
        let by = format!("{sign}{}", difference.text(1));
        [format!("{better} − {worse}"), by, format!("{won} of {}", counted(*seeds, "seed"))]
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn shown(method: &MethodResult, quantity: Quantity, with_interval: bool) -> String {
    let known = |estimate: Estimate| if with_interval { estimate } else { Estimate::known(estimate.mean) };
    method.last(quantity).map_or_else(|| "–".to_owned(), |estimate| known(estimate).text(quantity.digits()))
}

fn setting(method: &MethodResult, key: &str) -> String {
    method.settings.get(key).map(plain).unwrap_or_default()
}

/// A quantity at the start, at the end, and the end's interval; empty where unknown.
fn ends(quantity: Quantity, curve: &[Point]) -> [String; 4] {
    let at = |point: Option<&Point>| point.and_then(|point| quantity.of(point));
    let text = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let (start, end) = (at(curve.first()), at(curve.last()));
    let numbers =
        [start.map(|start| start.mean), end.map(|end| end.mean), end.and_then(|e| e.low), end.and_then(|e| e.high)];
    numbers.map(text)
}

/// Columns side by side: the first one held left, the others right.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(index, (cell, &width))| match index {
            0 => format!("  {cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        cells.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A Markdown table; the first row is its head.
fn piped(rows: &[Vec<String>]) -> String {
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule = format!("|---{}|\n", "|---:".repeat(rows.first().map_or(1, Vec::len) - 1));
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.insert(1, rule);
    lines.concat()
}

/// One line of CSV (RFC 4180).
fn record(cells: &[String]) -> String {
    let quoted = |cell: &String| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    format!("{}\n", cells.iter().map(quoted).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[&str; 2]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(record(&rows(&[["BPO, F=2", "say \"x\""]])[0]), "\"BPO, F=2\",\"say \"\"x\"\"\"\n");
    }

    #[test]
    fn columns_are_aligned_by_characters() {
        assert_eq!(aligned(&rows(&[["β", "1"], ["ab", "10"]])), ["  β    1", "  ab  10"]);
    }

    #[test]
    fn a_markdown_table_has_a_rule_and_no_stray_bars() {
        assert_eq!(piped(&rows(&[["a", "b"], ["x|y", "1"]])), "| a | b |\n|---|---:|\n| x\\|y | 1 |\n");
    }

    #[test]
    fn a_difference_tells_who_by_how_much_and_how_often() {
        let difference = Difference {
            better: "BPO, F=2".into(),
            worse: "offline DPO".into(),
            difference: Estimate { mean: 4.1, low: Some(1.2), high: Some(7.0) },
            won: 7,
            seeds: 8,
        };
        assert_eq!(difference.row().join(": "), "BPO, F=2 − offline DPO: +4.1 [1.2, 7.0]: 7 of 8 seeds");
    }
}
