//! TensorBoard event files: scalars and texts, by step.
//!
//! A file is a sequence of framed records (`frame.rs`), each a protobuf `Event` of tensorflow/core/util/event.proto
//! (`event.rs`); only the fields that are needed are written, and by hand. A run that goes on after an interruption begins
//! another file, whose first events say from which step on earlier files no longer count.
mod event;
mod frame;

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::Error;

/// What the name of an event file has in it: TensorBoard knows them by that, and reads them in the order of their names.
const MARK: &str = "events.out.tfevents.";

/// An event file that is being written.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Begins a new file in `folder`, which is created if need be. `step` is the first step that will be written: what
    /// earlier files have of it and of later ones is void. `time` is in seconds since 1970.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: &Path, step: u64, time: f64) -> Result<Self, Error> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let number = earlier(folder).map_err(failed("list", folder))?;
        let path = folder.join(format!("{MARK}{:010}.bpo", number.map_or(0, |number| number + 1)));
        let created = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut writer = Self { file: created.map_err(failed("create", &path))?, path };
        writer.write(&event::version(time))?;
        if number.is_some() {
            writer.write(&event::restart(time, step))?;
        }
        Ok(writer)
    }

    /// Adds the numbers among `metrics`, each under its key.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalars(&mut self, step: u64, time: f64, metrics: &Map<String, Value>) -> Result<(), Error> {
        let numbers = metrics.iter().filter(|(key, _)| *key != "step");
        let numbers: Vec<(&str, f64)> =
            numbers.filter_map(|(key, value)| Some((key.as_str(), value.as_f64()?))).collect();
        self.write(&event::scalars(time, step, &numbers))
    }

    /// Adds a text, shown as Markdown.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn text(&mut self, step: u64, time: f64, tag: &str, text: &str) -> Result<(), Error> {
        self.write(&event::text(time, step, tag, text))
    }

    /// One write call for each record: a process that is killed leaves whole records, or one torn one at the end.
    fn write(&mut self, event: &[u8]) -> Result<(), Error> {
        let written = self.file.write_all(&frame::framed(event));
        written.map_err(|source| Error::Io { action: "write", path: self.path.clone(), source })
    }
}

/// The largest number of an event file in the folder.
fn earlier(folder: &Path) -> std::io::Result<Option<u64>> {
    let mut largest = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_string_lossy().strip_prefix(MARK).and_then(|rest| rest.split('.').next()?.parse().ok());
        largest = largest.max(number);
    }
    Ok(largest)
}

/// `text` as a block that Markdown leaves as it is.
pub fn verbatim(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
