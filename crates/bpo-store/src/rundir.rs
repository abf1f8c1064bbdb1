//! The folder of one run, held by one process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::lock::{self, Lock};
use crate::{Checkpoints, Error, Io, Journal, MetricsLog, RowFile, checkpoint, io, journal, metrics, name};

/// The recipe's name: a folder with one is a run.
const RECIPE: &str = "recipe.toml";
/// Written when a run is done.
const FINISHED: &str = "finished.json";
/// Names that only this crate writes.
const RESERVED: [&str; 6] =
    [lock::FILE, journal::FILE, metrics::FILE, checkpoint::FOLDER, checkpoint::QUARANTINE, FINISHED];

/// The folder of a run. While this value, or anything opened through it, lives, no other
/// process can open the folder; when the process ends, however it ends, another one can.
///
/// Open the journal, the checkpoints and the metrics once each.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    io: Io,
    lock: Arc<Lock>,
}

impl RunDir {
    /// Opens the folder of a run, creating it if need be, and takes its lock.
    ///
    /// # Errors
    /// [`Error::NotAFolder`] for a file, [`Error::NotARun`] for a folder that holds something
    /// else, [`Error::Locked`] when another process has it, and [`Error::Io`], for a folder that
    /// cannot be written to for instance.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_through(Io::real(), path)
    }

    /// [`RunDir::open`], all files being reached through `io`.
    ///
    /// # Errors
    /// As [`RunDir::open`].
    pub fn open_through(io: Io, path: &Path) -> Result<Self, Error> {
        if io::is_no_folder(path) {
            let path = path.to_owned();
            return Err(Error::NotAFolder { path });
        }
        refuse_strangers(&io, path)?;
        io.create_folder(path)?;
        let lock = Arc::new(Lock::take(&io, path)?);
        // Files of a process that was killed may be there without their names being durable.
        io.sync_folder(Some(path))?;
        Ok(Self { path: path.to_owned(), io, lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of a file in the folder, if there is one.
    ///
    /// # Errors
    /// [`Error::Name`] for a name that leaves the folder, and [`Error::Io`].
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.io.read_if_any(&self.path.join(name::relative(name)?))
    }

    /// Writes a file in the folder, or in a folder below it. A reader, and whoever starts after
    /// a crash, finds the old bytes or the new ones, never a mixture.
    ///
    /// # Errors
    /// [`Error::Name`] for a name that leaves the folder or that is reserved, and [`Error::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let relative = name::relative(name)?;
        if RESERVED.iter().any(|reserved| relative.starts_with(reserved)) {
            return Err(name::refused(name, "it is written by the store"));
        }
        let path = self.path.join(relative);
        if let Some(folder) = path.parent()
            && folder != self.path
        {
            self.io.create_folder(folder)?;
        }
        self.io.write_atomic(&path, bytes)
    }

    /// Room for rows that are read back by index, on the disk of this folder; none of it outlives the process.
    pub fn rows<T: Serialize + DeserializeOwned>(&self) -> RowFile<T> {
        RowFile::new(&self.io, &self.path)
    }

    /// Whether the run is done.
    pub fn is_finished(&self) -> bool {
        io::exists(&self.path.join(FINISHED))
    }

    /// Marks the run as done, with a summary that lands in `finished.json`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn mark_finished(&self, summary: &Value) -> Result<(), Error> {
        let text = format!("{summary:#}\n");
        self.io.write_atomic(&self.path.join(FINISHED), text.as_bytes())
    }

    /// Opens the journal and checks every record of it.
    ///
    /// # Errors
    /// [`Error::JournalDamaged`], [`Error::JournalFormat`] and [`Error::Io`].
    pub fn journal(&self) -> Result<Journal, Error> {
        journal::open(&self.io, &self.path, &self.lock)
    }

    /// Opens the checkpoints, clearing away what a crash left unfinished.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn checkpoints(&self) -> Result<Checkpoints, Error> {
        Checkpoints::open(&self.io, &self.path, &self.lock)
    }

    /// Opens the metrics of a run that goes on after `keep_through_step`, the step of its
    /// checkpoint; `None` for a run without one, whose metrics start anew. Lines of later steps
    /// and a torn last line are cut.
    ///
    /// # Errors
    /// [`Error::MetricsDamaged`] and [`Error::Io`].
    pub fn metrics(&self, keep_through_step: Option<u64>) -> Result<MetricsLog, Error> {
        MetricsLog::open(&self.io, &self.path, keep_through_step, &self.lock)
    }
}

/// Refuses a folder that holds files but no run. Hidden files do not count.
fn refuse_strangers(io: &Io, path: &Path) -> Result<(), Error> {
    let names = io.names(path)?;
    if names.iter().any(|name| name == RECIPE || name == lock::FILE) {
        return Ok(());
    }
    match names.into_iter().find(|name| !name.starts_with('.')) {
        None => Ok(()),
        Some(found) => Err(Error::NotARun { path: path.to_owned(), found }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_missing_folder_is_created_and_reopened() {
        let parent = crate::scratch::folder();
        let path = parent.path().join("runs/first");
        drop(RunDir::open(&path).unwrap());
        let run = RunDir::open(&path).unwrap();
        assert_eq!(run.path(), path);
        assert!(!run.is_finished());
    }

    #[test]
    fn a_file_or_a_folder_of_something_else_is_refused() {
        let parent = crate::scratch::folder();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(RunDir::open(&file), Err(Error::NotAFolder { .. })));
        let below = file.join("run");
        assert!(matches!(RunDir::open(&below), Err(Error::Io { .. })));
        match RunDir::open(parent.path()) {
            Err(Error::NotARun { found, .. }) => assert_eq!(found, "file"),
            other => panic!("{other:?}"),
        }
        assert!(!parent.path().join("lock").exists());
        fs::write(parent.path().join("recipe.toml"), "").unwrap();
        RunDir::open(parent.path()).unwrap();
    }

    #[test]
    fn a_run_has_one_owner_even_through_its_parts() {
        let parent = crate::scratch::folder();
        let run = RunDir::open(parent.path()).unwrap();
        let parts = (run.journal().unwrap(), run.checkpoints().unwrap(), run.metrics(None).unwrap());
        let locked = || matches!(RunDir::open(parent.path()), Err(Error::Locked { .. }));
        assert!(locked());
        drop(run);
        assert!(locked());
        drop(parts);
        assert!(!locked());
    }

    #[test]
    fn files_are_written_whole_and_read_back() {
        let parent = crate::scratch::folder();
        let run = RunDir::open(parent.path()).unwrap();
        assert_eq!(run.read("recipe.toml").unwrap(), None);
        run.write("recipe.toml", b"beta = 0.1").unwrap();
        run.write("plots/loss.svg", b"<svg/>").unwrap();
        assert_eq!(run.read("recipe.toml").unwrap().unwrap(), b"beta = 0.1");
        assert_eq!(run.read("plots/loss.svg").unwrap().unwrap(), b"<svg/>");
    }

    #[test]
    fn names_that_leave_the_folder_or_are_reserved_are_refused() {
        let parent = crate::scratch::folder();
        let run = RunDir::open(&parent.path().join("run")).unwrap();
        for name in ["../a", "/tmp/a", "", "lock", "journal.bin", "checkpoints/step-1/a"] {
            assert!(matches!(run.write(name, b""), Err(Error::Name { .. })), "{name}");
        }
        assert!(run.read("../a").is_err());
        assert!(run.read("lock").unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link_or_read_from_a_pipe() {
        let parent = crate::scratch::folder();
        let (path, thesis) = (parent.path().join("run"), parent.path().join("thesis.tex"));
        for name in ["lock", "journal.bin", "metrics.jsonl"] {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("recipe.toml"), "").unwrap();
            fs::write(&thesis, "chapter one").unwrap();
            std::os::unix::fs::symlink(&thesis, path.join(name)).unwrap();
            let opened =
                RunDir::open(&path).and_then(|run| run.journal().map(|_| run)).and_then(|run| run.metrics(None));
            let told = opened.unwrap_err().to_string();
            assert!(told.contains(name), "{told}");
            assert_eq!(fs::read(&thesis).unwrap(), b"chapter one", "{name}");
            fs::remove_dir_all(&path).unwrap();
        }
        let run = RunDir::open(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(path.join("recipe.toml")).status();
        if made.is_ok_and(|made| made.success()) {
            assert!(matches!(run.read("recipe.toml"), Err(Error::NotAFile { .. })));
        }
    }

    #[test]
    fn a_finished_run_says_so() {
        let parent = crate::scratch::folder();
        let run = RunDir::open(parent.path()).unwrap();
        run.mark_finished(&json!({"step": 9})).unwrap();
        assert!(run.is_finished());
        let text = run.read("finished.json").unwrap().unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), json!({"step": 9}));
    }
}
