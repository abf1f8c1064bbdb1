//! Progress on standard error: bars in a terminal, a line now and then elsewhere, nothing when quiet.
use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use console::{Term, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::out::printable;

/// Time between two lines of one stage.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Columns of the narrowest terminal that has a [`Board`], and rows that must be left beside one.
const ROOM: [usize; 2] = [60, 6];
/// The message is the metrics, or whatever else the stage wants to show; it is cut at the terminal's edge.
const BAR: &str = "{prefix:>10} {bar:24.dim} {pos}/{len} {rate} eta {eta} {wide_msg}";
/// The same in a terminal too narrow for it: a bar that is folded is drawn again below itself.
const SHORT_BAR: &str = "{prefix:>8} {bar:8.dim} {pos}/{len} eta {eta} {wide_msg}";

/// How a command tells what it is doing.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Bars in a terminal.
    Bars(MultiProgress),
    /// Plain lines.
    Lines,
    /// Nothing.
    Quiet,
}

impl Progress {
    /// Bars if standard error is a terminal that can draw, lines otherwise, nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let can_draw = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        match (quiet, io::stderr().is_terminal() && can_draw) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Bars(MultiProgress::new()),
            (false, false) => Self::Lines,
        }
    }

    /// Begins a stage of `total` steps of one `unit`, in the plural: `rows`, `prompts`.
    pub fn stage(&self, name: &str, total: usize, unit: &'static str) -> Stage {
        let bar = match self {
            Self::Bars(bars) => bars.add(bar(name, total)),
            _ => ProgressBar::hidden(),
        };
        let now = Instant::now();
        Stage {
            name: name.to_owned(),
            unit,
            total,
            done: 0,
            message: String::new(),
            bar,
            lines: matches!(self, Self::Lines),
            told: None,
            began: now,
        }
    }

    /// A place for `lines` lines above the bars, in a terminal that has the room.
    pub fn board(&self, lines: usize) -> Option<Board> {
        let Self::Bars(bars) = self else { return None };
        let (rows, columns) = Term::stderr().size();
        if usize::from(columns) < ROOM[0] || usize::from(rows) < lines + ROOM[1] {
            return None;
        }
        let style = ProgressStyle::with_template("{msg}").ok()?;
        Some(Board(bars.insert(0, ProgressBar::new_spinner().with_style(style))))
    }

    /// Says one thing, above the bars if there are any.
    pub fn say(&self, text: &str) {
        match self {
            // A terminal that is gone cannot be told so.
            Self::Bars(bars) => drop(bars.println(printable(text))),
            Self::Lines => tell(&printable(text)),
            Self::Quiet => {}
        }
    }
}

/// Lines that are drawn anew in their place.
#[derive(Debug)]
pub struct Board(ProgressBar);

impl Board {
    /// Draws `lines`, all at once, cut at the terminal's edge.
    pub fn show(&self, lines: &[String]) {
        let columns = usize::from(Term::stderr().size().1);
        let cut = |line: &String| truncate_str(line, columns.saturating_sub(1), "…").into_owned();
        self.0.set_message(lines.iter().map(cut).collect::<Vec<_>>().join("\n"));
    }

    /// Takes the lines away.
    pub fn finish(self) {
        self.0.finish_and_clear();
    }
}

fn bar(name: &str, total: usize) -> ProgressBar {
    let is_narrow = usize::from(Term::stderr().size().1) < ROOM[0];
    let style = ProgressStyle::with_template(if is_narrow { SHORT_BAR } else { BAR })
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // Writing to a string does not fail.
        let _ = write!(out, "{:.1}/s", state.per_sec());
    };
    let style = style.with_key("rate", rate);
    ProgressBar::new(total as u64).with_style(style).with_prefix(name.to_owned())
}

fn tell(text: &str) {
    // Progress is not worth failing for.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Something that takes a known number of steps. In lines, it tells at most every ten seconds, and a
/// stage that was told of tells its end.
#[derive(Debug)]
pub struct Stage {
    name: String,
    unit: &'static str,
    total: usize,
    done: usize,
    message: String,
    bar: ProgressBar,
    lines: bool,
    told: Option<Instant>,
    began: Instant,
}

impl Stage {
    /// `steps` more are done.
    pub fn advance(&mut self, steps: usize) {
        self.set(self.done + steps);
    }

    /// `done` are done in all; more than the total are the total.
    pub fn set(&mut self, done: usize) {
        self.done = done.min(self.total);
        self.bar.set_position(self.done as u64);
        if self.lines && self.told.unwrap_or(self.began).elapsed() >= BETWEEN_LINES && self.done < self.total {
            self.told = Some(Instant::now());
            tell(&self.line());
        }
    }

    /// Shown beside the count.
    pub fn message(&mut self, text: &str) {
        text.clone_into(&mut self.message);
        self.bar.set_message(text.to_owned());
    }

    /// Takes the bar away while `print` writes to the terminal.
    pub fn hidden<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Ends the stage.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        if self.told.is_some() {
            tell(&self.line());
        }
    }

    fn line(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = self.done as f64 / seconds.max(1e-9);
        let Self { name, unit, total, done, message, .. } = self;
        let left = if self.done > 0 && done < total {
            format!(", {:.0} s left", (total - done) as f64 / rate)
        } else {
            String::new()
        };
        let gap = if message.is_empty() { "" } else { "  " };
        format!("{name}: {done}/{total} {unit} in {seconds:.0} s ({rate:.1}/s{left}){gap}{message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_never_counts_past_its_total() {
        let mut stage = Progress::Quiet.stage("sampling", 3, "prompts");
        stage.advance(2);
        stage.advance(5);
        assert!(stage.line().starts_with("sampling: 3/3 prompts in "), "{}", stage.line());
    }
}
