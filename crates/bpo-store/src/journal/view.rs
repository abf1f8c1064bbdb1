//! A journal that is only looked at: no lock, and nothing of it is changed.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::record::{self, FILE_HEADER};
use super::scan::{Scan, scan_through};
use crate::Error;
use crate::io::{exists, failed, refuse_strange};

/// The intact records of a run's journal at one moment, the run being in progress or not.
#[derive(Debug)]
pub struct JournalView {
    /// The file and where its records lie; a run that has written none has neither.
    open: Option<(File, Scan)>,
    path: PathBuf,
}

impl JournalView {
    /// Looks at the journal of the run in the folder `run`; a missing one has no records, and a torn tail is left out.
    ///
    /// # Errors
    /// [`Error::JournalDamaged`], [`Error::JournalFormat`], [`Error::NotAFile`] and [`Error::Io`].
    pub fn open(run: &Path) -> Result<Self, Error> {
        let path = run.join(super::FILE);
        refuse_strange(&path)?;
        if !exists(&path) {
            return Ok(Self { open: None, path });
        }
        let file = File::open(&path).map_err(failed("open", &path))?;
        let length = file.metadata().map_err(failed("measure", &path))?.len();
        if length < FILE_HEADER.len() as u64 {
            return Ok(Self { open: None, path });
        }
        let mut header = [0; FILE_HEADER.len()];
        (&file).read_exact(&mut header).map_err(failed("read", &path))?;
        if header != FILE_HEADER {
            return Err(Error::JournalFormat { path });
        }
        let scan = scan_through(BufReader::new(&file), &path, length)?;
        Ok(Self { open: Some((file, scan)), path })
    }

    /// The step and kind of every record, by step.
    pub fn records(&self) -> impl Iterator<Item = (u64, &str)> {
        let steps = self.open.iter().flat_map(|(_, scan)| &scan.index);
        steps.flat_map(|(step, kinds)| kinds.keys().map(|kind| (*step, kind.as_str())))
    }

    /// The payload of a record, if there is one.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::JournalDamaged`] when the record changed since the journal was opened.
    pub fn get(&self, step: u64, kind: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some((mut file, span)) =
            self.open.as_ref().and_then(|(file, scan)| Some((file, *scan.index.get(&step)?.get(kind)?)))
        else {
            return Ok(None);
        };
        let mut bytes = vec![0; span.length];
        file.seek(SeekFrom::Start(span.offset)).map_err(failed("seek in", &self.path))?;
        file.read_exact(&mut bytes).map_err(failed("read", &self.path))?;
        match record::payload(bytes, step, kind) {
            Some(payload) => Ok(Some(payload)),
            None => {
                let reason = "the record is not what was written";
                Err(Error::JournalDamaged { path: self.path.clone(), offset: span.offset, reason })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::RunDir;

    use super::*;

    #[test]
    fn a_journal_in_use_is_looked_at_without_a_trace() {
        let parent = crate::scratch::folder();
        let run = RunDir::open(&parent.path().join("run")).unwrap();
        assert_eq!(JournalView::open(run.path()).unwrap().records().count(), 0);
        let mut journal = run.journal().unwrap();
        journal.append(1, "sampled", b"one").unwrap();
        journal.append(2, "judged", b"two").unwrap();
        let path = run.path().join("journal.bin");
        let whole = fs::read(&path).unwrap();
        let view = JournalView::open(run.path()).unwrap();
        assert_eq!(view.records().collect::<Vec<_>>(), [(1, "sampled"), (2, "judged")]);
        assert_eq!(view.get(2, "judged").unwrap().unwrap(), b"two");
        assert_eq!(view.get(2, "sampled").unwrap(), None);
        drop((journal, run));
        for cut in 1..whole.len() - 8 {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert!(JournalView::open(parent.path().join("run").as_path()).unwrap().records().count() < 2);
            assert_eq!(fs::read(&path).unwrap().len(), whole.len() - cut);
        }
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let parent = crate::scratch::folder();
        fs::write(parent.path().join("journal.bin"), "not a journal").unwrap();
        assert!(matches!(JournalView::open(parent.path()), Err(Error::JournalFormat { .. })));
    }
}
