//! Rows of data files, and what is said about those that cannot be read.
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use bpo_data::{BadLines, FromRow, ReferenceRow, RowReader, Rows};

use crate::{
    embedded,
    failure::{Failure, io_failure},
    progress::Progress,
};

/// The rows of a file, which is read through once and not held, or what is built in, with its name; and it is said what
/// was left out.
pub fn rows<T: FromRow + Clone>(
    path: &str,
    (name, built_in): (&str, &[u8]),
    bad_lines: BadLines,
    progress: &Progress,
) -> Result<Rows<T>, Failure> {
    let (rows, read) = match path {
        embedded::NAME => {
            let mut read = RowReader::bytes(name, built_in).with_bad_lines(bad_lines).all()?;
            (std::mem::take(&mut read.rows).into(), read)
        }
        path => Rows::of_file(Path::new(path), bad_lines)?,
    };
    for (reason, count) in &read.skipped {
        progress.say(&format!("note: {count} pairs left out: {reason}"));
    }
    if let Some(first) = &read.first_bad {
        let rows = if read.bad == 1 { "row" } else { "rows" };
        progress.say(&format!("note: {} {rows} left out that cannot be read, the first: {first}", read.bad));
    }
    Ok(rows)
}

/// Held-out prompts with reference texts, where there are such.
pub fn references(
    path: Option<&str>,
    bad_lines: BadLines,
    progress: &Progress,
) -> Result<Option<Rows<ReferenceRow>>, Failure> {
    let built_in = ("(embedded references)", embedded::EVAL_PROMPTS);
    path.map(|path| rows(path, built_in, bad_lines, progress)).transpose()
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

    /// What errors call it; `path` is what was opened.
    pub fn name(&self, path: &Path) -> String {
        match self {
            Self::File(_) => path.display().to_string(),
            Self::Held(name, _) => name.clone(),
        }
    }

    /// All rows, from the first.
    pub fn reader(&self) -> RowReader<'_> {
        match self {
            Self::File(path) => RowReader::file(path),
            Self::Held(name, bytes) => RowReader::bytes(name, bytes),
        }
    }
}
