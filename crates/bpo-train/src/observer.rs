use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Map, Value};

use crate::CurvePoint;

/// A part of a step that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Tokenising the data, before the first step, where there is much of it.
    Tokenise,
    /// Sampling completions.
    Sample,
    /// Asking the annotator.
    Judge,
    /// Scoring, backward and the optimiser.
    Train,
    /// Sampling and judging held-out prompts.
    Evaluate,
    /// Reading texts as a reward model does, without gradients.
    Read,
}

/// A wish to stop, shared by whoever may have it (a signal handler, a test) and the run that heeds it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks the run to stop. Returns whether that had been asked before.
    pub fn ask(&self) -> bool {
        self.0.swap(true, Ordering::SeqCst)
    }

    /// Whether it was asked.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A pair as people read it.
#[derive(Debug, Clone, Copy)]
pub struct ShownPair<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// The preferred completion.
    pub chosen: &'a str,
    /// The other one.
    pub rejected: &'a str,
    /// Score of the chosen minus that of the rejected one, where both have scores.
    pub gap: Option<f64>,
}

/// Is told what happens in a run, and may ask it to stop.
pub trait Observer {
    /// `stage` begins; it will advance to `total`.
    fn begin(&mut self, stage: Stage, total: u64);
    /// The stage has reached `done`.
    fn advance(&mut self, done: u64);
    /// The stage is over.
    fn end(&mut self);
    /// Step `step` of `total` is done, with the metrics that went to `metrics.jsonl`.
    fn step(&mut self, step: u64, total: u64, metrics: &Map<String, Value>);
    /// Step `step`, counted from 0, is about to train on pairs, of which this is the first.
    fn pair(&mut self, step: u64, pair: ShownPair<'_>) {
        let _ = (step, pair);
    }
    /// The policy was evaluated; unless it `is_new`, this is the record of an evaluation that was made before the run
    /// was started again.
    fn evaluated(&mut self, point: &CurvePoint, is_new: bool) {
        let _ = (point, is_new);
    }
    /// Something worth a line.
    fn note(&mut self, line: &str);
    /// Asked when a stage or a batch of questions is done; `true` saves a checkpoint and returns.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn begin(&mut self, _: Stage, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn end(&mut self) {}
    fn step(&mut self, _: u64, _: u64, _: &Map<String, Value>) {}
    fn note(&mut self, _: &str) {}
}
