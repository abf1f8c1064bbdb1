//! Checkpoints that exist whole or not at all.
//!
//! A set of files is built under a hidden name, each file synced, its manifest last, and then
//! renamed into place: `checkpoints/step-00000012/`. What is found damaged later is moved to
//! `quarantine/`, never deleted, and the newest intact set takes its place.

mod manifest;
mod set;
mod writer;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use set::Checkpoint;
pub use writer::{FileWriter, SetWriter};

use crate::Error;
use crate::io::{self, Io};
use crate::lock::Lock;
use set::{Fault, verify};

/// The folder of the checkpoints of a run.
pub(crate) const FOLDER: &str = "checkpoints";
/// The folder of those that were found damaged.
pub(crate) const QUARANTINE: &str = "quarantine";

/// The least number of intact sets that are kept.
const FEWEST: usize = 2;

/// A set under construction; of no use after a crash.
const BUILDING: &str = ".building-";
/// A set that a new one of the same step is replacing; put back if the new one did not arrive.
const REPLACED: &str = ".replaced-";
/// A set that is being deleted.
const DOOMED: &str = ".doomed-";

/// A checkpoint that was damaged, and where it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its step.
    pub step: u64,
    /// Where it was moved to.
    pub path: PathBuf,
    /// What was wrong with it.
    pub reason: String,
}

/// The checkpoints of a run.
#[derive(Debug)]
pub struct Checkpoints {
    io: Io,
    folder: PathBuf,
    quarantine: PathBuf,
    keep: usize,
    /// Steps that were saved or verified by this process.
    intact: BTreeSet<u64>,
    quarantined: Vec<Quarantined>,
    _lock: Arc<Lock>,
}

impl Checkpoints {
    /// Opens the checkpoints of a run and clears away what a crash left unfinished.
    pub(crate) fn open(io: &Io, run: &Path, lock: &Arc<Lock>) -> Result<Self, Error> {
        let checkpoints = Self {
            io: io.clone(),
            folder: run.join(FOLDER),
            quarantine: run.join(QUARANTINE),
            keep: FEWEST,
            intact: BTreeSet::new(),
            quarantined: Vec::new(),
            _lock: Arc::clone(lock),
        };
        io.create_folder(&checkpoints.folder)?;
        io.sync_folder(Some(&checkpoints.folder))?;
        checkpoints.recover()?;
        Ok(checkpoints)
    }

    /// Keeps this many intact sets, but never fewer than two.
    pub fn keep(&mut self, sets: usize) {
        self.keep = sets.max(FEWEST);
    }

    /// What was found damaged since these checkpoints were opened.
    pub fn quarantined(&self) -> &[Quarantined] {
        &self.quarantined
    }

    /// The steps that have a set, intact or not, the newest first.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn steps(&self) -> Result<Vec<u64>, Error> {
        let names = self.io.names(&self.folder)?;
        let mut steps: Vec<u64> = names.iter().filter_map(|name| step_of(name)).collect();
        steps.sort_unstable_by(|one, other| other.cmp(one));
        Ok(steps)
    }

    /// Saves the files of a step. On return the set is durable, and sets older than the newest
    /// intact ones are deleted. A failed save leaves every earlier set intact.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Name`] and [`Error::CheckpointTwice`].
    pub fn save(&mut self, step: u64, files: &[(&str, &[u8])]) -> Result<(), Error> {
        self.save_in_pieces(step, |set| files.iter().try_for_each(|(name, bytes)| set.file(name, bytes)))
    }

    /// [`Checkpoints::save`] of files that `write` hands over one by one and piece by piece, so that a set need not fit
    /// into memory.
    ///
    /// # Errors
    /// Those of [`Checkpoints::save`] and those of `write`.
    pub fn save_in_pieces<E: From<Error>>(
        &mut self,
        step: u64,
        write: impl FnOnce(&mut SetWriter<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let building = self.hidden(BUILDING, step);
        let saved = self.built(step, &building, write);
        if saved.is_err() {
            // The error in hand says more than this one could.
            let _ = self.io.remove_folder(&building);
        }
        saved?;
        self.intact.insert(step);
        Ok(self.retire(step)?)
    }

    /// Builds a set under a hidden name, its manifest last, and moves it into place.
    fn built<E: From<Error>>(
        &self,
        step: u64,
        building: &Path,
        write: impl FnOnce(&mut SetWriter<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.io.remove_folder(building)?;
        self.io.create_folder(building)?;
        let mut set = SetWriter::new(&self.io, building, step);
        write(&mut set)?;
        set.seal()?;
        Ok(self.place(building, step)?)
    }

    /// The newest intact checkpoint. Damaged ones are moved to quarantine on the way, and sets older than the newest
    /// intact ones are deleted; `None` means that there never was one.
    ///
    /// # Errors
    /// [`Error::NoIntactCheckpoint`] when checkpoints existed and none is intact, be it now or
    /// since an earlier call: a run never starts anew silently. [`Error::CheckpointFormat`] for
    /// an intact one of another version, and [`Error::Io`].
    pub fn latest(&mut self) -> Result<Option<Checkpoint>, Error> {
        for step in self.steps()? {
            if let Some(checkpoint) = self.intact(step)? {
                // A save that was cut short may have left sets that it would have let go.
                self.retire(step)?;
                return Ok(Some(checkpoint));
            }
        }
        let ever = self.io.names(&self.quarantine)?;
        match ever.iter().any(|name| name.starts_with("step-")) {
            true => Err(Error::NoIntactCheckpoint { path: self.folder.clone(), quarantine: self.quarantine.clone() }),
            false => Ok(None),
        }
    }

    /// The set of a step, verified; `None` once it is in quarantine.
    fn intact(&mut self, step: u64) -> Result<Option<Checkpoint>, Error> {
        match verify(&self.io, &self.place_of(step), step) {
            Ok(checkpoint) => {
                self.intact.insert(step);
                Ok(Some(checkpoint))
            }
            Err(Fault::Error(error)) => Err(error),
            Err(Fault::Damaged(reason)) => self.isolate(step, reason).map(|()| None),
        }
    }

    fn isolate(&mut self, step: u64, reason: String) -> Result<(), Error> {
        self.intact.remove(&step);
        self.io.create_folder(&self.quarantine)?;
        let path = self.free_cell(step);
        self.io.rename(&self.place_of(step), &path)?;
        self.quarantined.push(Quarantined { step, path, reason });
        Ok(())
    }

    /// A name in quarantine that is not taken.
    fn free_cell(&self, step: u64) -> PathBuf {
        let mut path = self.quarantine.join(name_of(step));
        let mut again = 2;
        while io::exists(&path) {
            path = self.quarantine.join(format!("{}.{again}", name_of(step)));
            again += 1;
        }
        path
    }

    /// Moves a finished set into place, over an earlier set of the same step if there is one.
    fn place(&self, building: &Path, step: u64) -> Result<(), Error> {
        let place = self.place_of(step);
        if !io::exists(&place) {
            return self.io.rename(building, &place);
        }
        let replaced = self.hidden(REPLACED, step);
        self.io.remove_folder(&replaced)?;
        self.io.rename(&place, &replaced)?;
        self.io.rename(building, &place)?;
        self.io.remove_folder(&replaced)
    }

    /// Deletes the sets older than the newest intact ones, but never the one just saved.
    fn retire(&mut self, saved: u64) -> Result<(), Error> {
        let mut kept = 0;
        for step in self.steps()? {
            if kept >= self.keep && step != saved {
                let doomed = self.hidden(DOOMED, step);
                self.io.remove_folder(&doomed)?;
                self.io.rename(&self.place_of(step), &doomed)?;
                self.intact.remove(&step);
                self.io.remove_folder(&doomed)?;
            } else if self.intact.contains(&step) || self.intact(step)?.is_some() {
                kept += 1;
            }
        }
        Ok(())
    }

    /// Clears away what a crash left: unfinished sets go, a replaced set comes back if its
    /// successor did not arrive.
    fn recover(&self) -> Result<(), Error> {
        for name in self.io.names(&self.folder)? {
            let path = self.folder.join(&name);
            if name.starts_with(BUILDING) || name.starts_with(DOOMED) {
                self.io.remove_folder(&path)?;
            } else if let Some(original) = name.strip_prefix(REPLACED) {
                let place = self.folder.join(original);
                match io::exists(&place) {
                    true => self.io.remove_folder(&path)?,
                    false => self.io.rename(&path, &place)?,
                }
            }
        }
        Ok(())
    }

    fn place_of(&self, step: u64) -> PathBuf {
        self.folder.join(name_of(step))
    }

    fn hidden(&self, prefix: &str, step: u64) -> PathBuf {
        self.folder.join(format!("{prefix}{}", name_of(step)))
    }
}

fn name_of(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step of a set's name; `None` for any other name, `step-7` and `step-+0000007` included.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (name_of(step) == name).then_some(step)
}

#[cfg(test)]
mod tests;
