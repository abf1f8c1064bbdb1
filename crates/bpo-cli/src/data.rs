//! Rows of data files, and what is said about those that cannot be read.
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use bpo_data::{BadLines, Read, ReferenceRow, RowReader};

use crate::{
    embedded,
    failure::{Failure, io_failure},
    progress::Progress,
};

/// A file of rows, or what is built in, with its name.
pub fn source<'a>(path: &'a str, name: &'a str, built_in: &'a [u8]) -> RowReader<'a> {
    match path {
        embedded::NAME => RowReader::bytes(name, built_in),
        path => RowReader::file(Path::new(path)),
    }
}

/// The rows, once it has been said how many could not be read.
pub fn told<T>(read: Read<T>, progress: &Progress) -> Vec<T> {
    if let Some(first) = &read.first_bad {
        let rows = if read.bad == 1 { "row" } else { "rows" };
        progress.say(&format!("note: {} {rows} left out that cannot be read, the first: {first}", read.bad));
    }
    read.rows
}

/// Held-out prompts with reference texts, where there are such.
pub fn references(
    path: Option<&str>,
    bad_lines: BadLines,
    progress: &Progress,
) -> Result<Option<Vec<ReferenceRow>>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let source = source(path, "(embedded references)", embedded::EVAL_PROMPTS).with_bad_lines(bad_lines);
    Ok(Some(told(source.references()?, progress)))
}

/// Rows that are read more than once: a file, which is not held, or what can be read only once and is.
pub enum RowSource {
    /// A file.
    File(PathBuf),
    /// Standard input, or a pipe, with its name.
    Held(String, Vec<u8>),
}

impl RowSource {
    /// `-` is standard input.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        let name = if path == Path::new("-") {
            let name = "(standard input)";
            std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| io_failure(Path::new(name), &error))?;
            name.to_owned()
        } else if path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            bytes = std::fs::read(path).map_err(|error| io_failure(path, &error))?;
            path.display().to_string()
        } else {
            return Ok(Self::File(path.to_owned()));
        };
        Ok(Self::Held(name, bytes))
    }

    /// All rows, from the first.
    pub fn reader(&self) -> RowReader<'_> {
        match self {
            Self::File(path) => RowReader::file(path),
            Self::Held(name, bytes) => RowReader::bytes(name, bytes),
        }
    }
}
