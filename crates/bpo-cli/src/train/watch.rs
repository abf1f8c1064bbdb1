//! What a run tells, as bars and lines and TensorBoard events; and Ctrl-C.
use std::path::Path;

use bpo_train::{CurvePoint, Interrupt, Observer, ShownPair, Stage};
use serde_json::{Map, Value};

use super::{
    events::Events,
    live::{self, Live},
};
use crate::{
    failure::warn,
    progress::{self, Board, Progress},
};

/// Shows a run's progress and listens for Ctrl-C and SIGTERM: the first ends the run after the stage, with a
/// checkpoint; the second leaves at once.
pub struct Watch {
    progress: Progress,
    steps: Option<progress::Stage>,
    stage: Option<progress::Stage>,
    board: Option<Board>,
    live: Live,
    events: Option<Events>,
    interrupt: Interrupt,
}

impl Watch {
    /// Takes over Ctrl-C, and writes events beside what the run in `dir` writes.
    pub fn new(progress: Progress, device: &str, dir: &Path) -> Self {
        let events = Some(Events::of(dir));
        let watch = Self { events, ..Self::without_handler(progress, device) };
        let interrupt = watch.interrupt.clone();
        let teller = watch.progress.clone();
        // Another handler can only be there in a test; then Ctrl-C keeps its default.
        let _ = ctrlc::set_handler(move || {
            if interrupt.ask() {
                std::process::exit(130);
            }
            teller.say("stopping after this stage; once more to leave at once (the run can be continued either way)");
        });
        watch
    }

    /// Leaves Ctrl-C alone: it ends the program, which has nothing to lose.
    pub fn without_handler(progress: Progress, device: &str) -> Self {
        progress.say(&format!("device: {device}"));
        Self {
            progress,
            steps: None,
            stage: None,
            board: None,
            live: Live::default(),
            events: None,
            interrupt: Interrupt::default(),
        }
    }

    /// Takes the bars away.
    pub fn finish(&mut self) {
        self.stage.take().into_iter().chain(self.steps.take()).for_each(progress::Stage::finish);
        self.board.take().into_iter().for_each(Board::finish);
    }
}

/// Events are not worth failing for; their first failure is their last.
fn told(written: Result<(), bpo_report::Error>) {
    if let Err(error) = written {
        warn(&format!("no more TensorBoard events: {error}"));
    }
}

/// The metrics worth a place beside the bar, with short names.
const SHOWN: [(&str, &str); 5] = [
    ("loss", "loss"),
    ("objective/scores", "score"),
    ("rewards/accuracies", "acc"),
    ("objective/kl", "kl"),
    ("collect/length", "len"),
];

impl Observer for Watch {
    fn begin(&mut self, stage: Stage, total: u64) {
        let (name, unit) = match stage {
            Stage::Tokenise => ("tokenise", "rows"),
            Stage::Sample => ("sample", "tokens"),
            Stage::Judge => ("judge", "pairs"),
            Stage::Train => ("train", "batches"),
            Stage::Evaluate => ("evaluate", "tokens"),
            Stage::Read => ("read", "texts"),
        };
        self.stage = Some(self.progress.stage(name, total as usize, unit));
    }

    fn advance(&mut self, done: u64) {
        if let Some(stage) = &mut self.stage {
            stage.set(done as usize);
        }
    }

    fn end(&mut self) {
        self.stage.take().into_iter().for_each(progress::Stage::finish);
    }

    fn step(&mut self, step: u64, total: u64, metrics: &Map<String, Value>) {
        let steps = self.steps.get_or_insert_with(|| self.progress.stage("steps", total as usize, "steps"));
        let shown: Vec<String> = SHOWN
            .iter()
            .filter_map(|(key, name)| Some(format!("{name} {:.3}", metrics.get(*key)?.as_f64()?)))
            .collect();
        self.live.step(metrics);
        if self.board.is_none() {
            self.board = self.progress.board(live::LINES);
        }
        match &self.board {
            Some(board) => board.show(&self.live.lines()),
            None => steps.message(&shown.join("  ")),
        }
        steps.set(step as usize);
        told(self.events.as_mut().map_or(Ok(()), |events| events.step(step, metrics)));
    }

    fn pair(&mut self, _: u64, pair: ShownPair<'_>) {
        self.live.pair(pair);
        self.events.iter_mut().for_each(|events| events.pair(pair));
    }

    fn evaluated(&mut self, point: &CurvePoint, is_new: bool) {
        self.live.evaluated(point);
        if point.step > 0 {
            self.progress.say(&live::evaluation(point));
        }
        told(self.events.as_mut().map_or(Ok(()), |events| events.evaluation(point, is_new)));
    }

    fn note(&mut self, line: &str) {
        self.progress.say(line);
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_asked()
    }
}
