//! Rows of data files, and what is said about those that cannot be read.
use std::path::Path;

use bpo_data::{BadLines, Read, ReferenceRow, RowReader};

use crate::{embedded, failure::Failure, progress::Progress};

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
