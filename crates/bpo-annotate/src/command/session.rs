//! Questions and answers in step: an answer is never taken for that of another question.

use std::time::Instant;

use serde_json::{Map, Value};

use super::Command;
use super::process::{Heard, Process};
use super::protocol::{self, Answer, Reply};
use crate::{Abstention, Error};

/// After so many questions in a row without an answer the program is given up.
const PATIENCE: u32 = 3;

/// A conversation with a program, over restarts of it.
///
/// A question whose answer did not come in time, or came as something else, is *abandoned*.
/// Its answer may still be under way. A program that repeats ids, as it then must do always,
/// will say so; any other is killed, and started afresh for the next question.
#[derive(Debug)]
pub(super) struct Session {
    command: Command,
    process: Option<Process>,
    /// Whether the program has repeated an id so far.
    repeats_ids: bool,
    next_id: u64,
    abandoned_in_a_row: u32,
}

/// What to do with one line, or with its absence.
enum Step<T> {
    Answered(Result<T, Abstention>),
    Abandoned(Abstention),
    Stale,
}

impl Session {
    /// Starts the program, so that one that does not exist is found out at once.
    pub fn start(command: Command) -> Result<Self, Error> {
        let mut session = Self { command, process: None, repeats_ids: false, next_id: 0, abandoned_in_a_row: 0 };
        session.process = Some(session.spawn()?);
        Ok(session)
    }

    pub fn name(&self) -> String {
        format!("command `{}`", self.program())
    }

    fn program(&self) -> String {
        self.command.program.join(" ")
    }

    fn spawn(&self) -> Result<Process, Error> {
        Process::start(&self.command).map_err(|source| Error::CommandStart { program: self.program(), source })
    }

    /// Asks one question and waits for its answer.
    pub fn ask<T>(
        &mut self,
        mut question: Value,
        read: impl Fn(&Map<String, Value>) -> Answer<T>,
    ) -> Result<Result<T, Abstention>, Error> {
        let process = match self.process.take() {
            Some(process) => process,
            None => self.spawn()?,
        };
        let id = self.next_id;
        self.next_id += 1;
        question["id"] = id.into();
        self.refuse_unasked(&process, id)?;
        process.tell(format!("{question}\n").into_bytes());
        let deadline = Instant::now() + self.command.timeout;
        loop {
            let step = match process.hear(deadline) {
                Heard::Line(line) => self.step(&process, id, &line, &read)?,
                Heard::Nothing => Step::Abandoned(Abstention::TimedOut),
                Heard::End => return Err(self.died(process)),
            };
            match step {
                Step::Stale => {}
                Step::Answered(answer) => {
                    self.abandoned_in_a_row = 0;
                    self.process = Some(process);
                    return Ok(answer);
                }
                Step::Abandoned(why) => return self.abandon(process, why).map(Err),
            }
        }
    }

    /// A line before the question answers nothing; what follows it would be out of step.
    fn refuse_unasked(&self, process: &Process, id: u64) -> Result<(), Error> {
        if self.repeats_ids {
            return Ok(());
        }
        match process.hear(Instant::now()) {
            Heard::Line(line) => {
                let line = String::from_utf8_lossy(&line).chars().take(200).collect::<String>();
                Err(self.out_of_step(process, id, format!("it wrote, unasked: {line}")))
            }
            Heard::Nothing | Heard::End => Ok(()),
        }
    }

    fn step<T>(
        &mut self,
        process: &Process,
        asked: u64,
        line: &[u8],
        read: impl Fn(&Map<String, Value>) -> Answer<T>,
    ) -> Result<Step<T>, Error> {
        let Reply { id, body } = match protocol::reply(line) {
            Ok(reply) => reply,
            Err(reason) => return Ok(Step::Abandoned(Abstention::Malformed(reason))),
        };
        let answer = read(&body);
        match id {
            Some(id) => match as_number(&id) {
                Some(answered) if answered == asked => {
                    self.repeats_ids = true;
                    Ok(Step::Answered(answer.value))
                }
                // The late answer to a question that was abandoned.
                Some(answered) if self.repeats_ids && answered < asked => Ok(Step::Stale),
                _ => Err(self.out_of_step(process, asked, format!("the answer has id {id}"))),
            },
            None => Ok(match answer.value {
                Err(why) if self.repeats_ids || !answer.belongs => Step::Abandoned(why),
                // It may be the late answer to a question that was abandoned.
                Ok(_) if self.repeats_ids => {
                    let reason = "no `id`, unlike the answers before".to_owned();
                    Step::Abandoned(Abstention::Malformed(reason))
                }
                value => Step::Answered(value),
            }),
        }
    }

    fn abandon(&mut self, process: Process, why: Abstention) -> Result<Abstention, Error> {
        self.abandoned_in_a_row += 1;
        if self.abandoned_in_a_row >= PATIENCE {
            return Err(Error::CommandUnusable {
                program: self.program(),
                unanswered: self.abandoned_in_a_row,
                reason: why.to_string(),
                stderr: process.stderr(),
            });
        }
        self.process = self.repeats_ids.then_some(process);
        Ok(why)
    }

    fn died(&self, mut process: Process) -> Error {
        let status = process.status();
        Error::CommandDied { program: self.program(), status, stderr: process.last_words() }
    }

    fn out_of_step(&self, process: &Process, asked: u64, reason: String) -> Error {
        Error::CommandOutOfStep { program: self.program(), asked, reason, stderr: process.stderr() }
    }
}

/// Ids may come back as numbers or as strings of digits.
fn as_number(id: &Value) -> Option<u64> {
    id.as_u64().or_else(|| id.as_str()?.parse().ok())
}
