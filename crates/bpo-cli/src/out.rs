//! Standard output: results and nothing else. A reader that goes away ends the command quietly.
use std::io::{self, BufWriter, ErrorKind, IsTerminal, StdoutLock, Write};

use serde_json::Value;

use crate::failure::{Failure, Kind};

/// A locked, buffered standard output.
pub struct Out {
    writer: BufWriter<StdoutLock<'static>>,
}

impl Out {
    /// Locks standard output.
    pub fn new() -> Self {
        Self { writer: BufWriter::new(io::stdout().lock()) }
    }

    /// Whether somebody looks at it in a terminal.
    pub fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Columns of the terminal, if it is one.
    pub fn columns(&self) -> Option<usize> {
        self.is_terminal().then(|| usize::from(console::Term::stdout().size().1))
    }

    /// Writes text and a line break.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.writer, "{text}").map_err(failed)
    }

    /// Writes one JSON value on one line.
    pub fn json(&mut self, value: &Value) -> Result<(), Failure> {
        writeln!(self.writer, "{value}").map_err(failed)
    }

    /// Hands over what is buffered.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(failed)
    }
}

fn failed(error: io::Error) -> Failure {
    let kind = if error.kind() == ErrorKind::BrokenPipe { Kind::ClosedOutput } else { Kind::Run };
    Failure::new(kind, error).context("cannot write to standard output")
}

/// Text that cannot steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2J\n\tb\u{9b}"), "a\u{fffd}[2J\n\tb\u{fffd}");
    }
}
