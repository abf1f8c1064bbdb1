//! Any program as a scorer or a judge: one JSON line in, one JSON line out.
//!
//! The program is started once and kept running. What it reads and must write:
//!
//! | mode | in | out |
//! |---|---|---|
//! | score | `{"id":0,"prompt":"…","response":"…"}` | `{"id":0,"score":1.5}` |
//! | compare | `{"id":0,"prompt":"…","first":"…","second":"…"}` | `{"id":0,"verdict":"first"}` (or `"second"`, `"tie"`) |
//!
//! `{"id":0,"error":"…"}` says that there is no answer.
//!
//! Repeating the `id` is optional but wise: it proves which question is answered, so that a
//! late or garbled line costs one answer instead of a restart of the program.

mod process;
mod protocol;
mod session;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::{Abstention, Annotator, Comparison, Error, Item, Judgement, Scorer, Verdict};
pub use protocol::{reply_score, reply_verdict};
use session::Session;
pub use words::split_words;

/// How to run a program: its arguments (no shell is involved), its folder, its patience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub program: Vec<String>,
    /// The folder it runs in; `None` for that of this process.
    pub folder: Option<PathBuf>,
    /// How long one answer may take; for the first one this includes what the program does to
    /// get ready.
    pub timeout: Duration,
}

impl Command {
    /// A program with sixty seconds for each answer.
    pub fn new<S: Into<String>>(program: impl IntoIterator<Item = S>) -> Self {
        Self { program: program.into_iter().map(Into::into).collect(), folder: None, timeout: Duration::from_secs(60) }
    }
}

/// A program that scores responses. It runs until this value is dropped.
///
/// A line that is not an answer, a missing score and a NaN abstain for that item only.
/// A program that dies, or that answers another question than the one asked, is an error:
/// no answer is ever guessed.
#[derive(Debug)]
pub struct CommandScorer {
    session: Session,
}

impl CommandScorer {
    /// Starts the program.
    ///
    /// # Errors
    /// [`Error::CommandStart`] when it does not start.
    pub fn start(command: Command) -> Result<Self, Error> {
        let session = Session::start(command)?;
        Ok(Self { session })
    }

    fn score_one(&mut self, item: &Item) -> Result<Result<f64, Abstention>, Error> {
        let question = json!({"prompt": item.prompt, "response": item.response});
        self.session.ask(question, protocol::score)
    }
}

impl Scorer for CommandScorer {
    fn name(&self) -> String {
        self.session.name()
    }

    fn score(&mut self, items: &[Item]) -> Result<Vec<f64>, Error> {
        let scores = self.score_or_abstain(items)?;
        Ok(scores.into_iter().map(|score| score.unwrap_or(f64::NAN)).collect())
    }

    fn score_or_abstain(&mut self, items: &[Item]) -> Result<Vec<Result<f64, Abstention>>, Error> {
        items.iter().map(|item| self.score_one(item)).collect()
    }
}

/// A program that compares two responses. Its faults are treated as those of
/// [`CommandScorer`].
#[derive(Debug)]
pub struct CommandJudge {
    session: Session,
}

impl CommandJudge {
    /// Starts the program.
    ///
    /// # Errors
    /// [`Error::CommandStart`] when it does not start.
    pub fn start(command: Command) -> Result<Self, Error> {
        let session = Session::start(command)?;
        Ok(Self { session })
    }

    fn compare_one(&mut self, pair: &Comparison) -> Result<Judgement, Error> {
        let question = json!({
            "prompt": pair.prompt, "first": pair.first, "second": pair.second,
        });
        let verdict = self.session.ask(question, protocol::verdict)?;
        Ok(Judgement::of(verdict.unwrap_or_else(Verdict::Abstain)))
    }
}

impl Annotator for CommandJudge {
    fn name(&self) -> String {
        self.session.name()
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        batch.iter().map(|pair| self.compare_one(pair)).collect()
    }
}

#[cfg(all(test, unix))]
mod tests;
