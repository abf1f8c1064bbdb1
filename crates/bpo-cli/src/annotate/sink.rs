//! Where rows go: standard output, or a file.
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    failure::{Failure, io_failure},
    out::Out,
};

/// Rows on their way out. What was flushed before a failure stays: answers may have cost a lot.
pub enum Sink {
    /// Standard output.
    Standard(Out),
    /// A file and its path.
    File(PathBuf, BufWriter<File>),
}

impl Sink {
    /// Empties the file at `path`, or takes standard output.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::Standard(Out::new())) };
        let file = File::create(path).map_err(|error| io_failure(path, &error))?;
        Ok(Self::File(path.to_owned(), BufWriter::new(file)))
    }

    /// Writes one JSON value on one line.
    pub fn json(&mut self, value: &Value) -> Result<(), Failure> {
        match self {
            Self::Standard(out) => out.json(value),
            Self::File(path, writer) => writeln!(writer, "{value}").map_err(|error| io_failure(path, &error)),
        }
    }

    /// Hands over what is buffered.
    pub fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Self::Standard(out) => out.flush(),
            Self::File(path, writer) => writer.flush().map_err(|error| io_failure(path, &error)),
        }
    }
}
