//! Rows that are too many for memory, in a file that is gone with the process.

use std::fs::File;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::finite::first_not_finite;
use crate::io::Io;

/// Bytes that stay in memory. A file is made when there are more.
const ROOM: usize = 8 << 20;

/// Rows in the order in which they were added, each read back by its index.
///
/// Eight bytes of a row are in memory, and up to 8 MiB of the rows added last; the others are in a file, as JSON, that has
/// lost its name as soon as it was made, so that the system takes it back when the process ends, however it ends. It is
/// nothing of a run: a run that is continued makes its rows again.
#[derive(Debug)]
pub struct RowFile<T> {
    io: Io,
    /// Where the file was made, for errors.
    path: PathBuf,
    file: Option<Mutex<File>>,
    /// Where each row ends.
    ends: Vec<u64>,
    /// Bytes in the file.
    written: u64,
    /// The bytes behind them.
    tail: Vec<u8>,
    room: usize,
    rows: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned> RowFile<T> {
    /// Without rows, its file being in the system's folder for temporary files. [`RunDir::rows`](crate::RunDir::rows) has
    /// it where the run is: temporary files may be in memory.
    pub fn temporary() -> Self {
        Self::new(&Io::real(), &std::env::temp_dir())
    }

    pub(crate) fn new(io: &Io, folder: &Path) -> Self {
        static FILES: AtomicU64 = AtomicU64::new(0);
        let name = format!(".bpo-rows-{}-{}.tmp", process::id(), FILES.fetch_add(1, Ordering::Relaxed));
        Self {
            io: io.clone(),
            path: folder.join(name),
            file: None,
            ends: Vec::new(),
            written: 0,
            tail: Vec::new(),
            room: ROOM,
            rows: PhantomData,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a row behind the others.
    ///
    /// # Errors
    /// [`Error::Io`] where the disk is full, and the row is not added; [`Error::Row`] for one that JSON cannot hold.
    pub fn push(&mut self, row: &T) -> Result<(), Error> {
        let begin = self.tail.len();
        if let Some(number) = first_not_finite(row) {
            return Err(self.unfit("write", format!("it holds {number}")));
        }
        if let Err(error) = serde_json::to_writer(&mut self.tail, row) {
            self.tail.truncate(begin);
            return Err(self.unfit("write", error.to_string()));
        }
        if self.tail.len() > self.room
            && let Err(error) = self.write()
        {
            self.tail.truncate(begin);
            return Err(error);
        }
        self.ends.push(self.written + self.tail.len() as u64);
        Ok(())
    }

    /// The row `index`, counted from 0.
    ///
    /// # Errors
    /// [`Error::Row`] where there are not that many, and [`Error::Io`].
    pub fn get(&self, index: usize) -> Result<T, Error> {
        let Some(&end) = self.ends.get(index) else {
            return Err(self.unfit("read", format!("there are {} rows, and {index} was asked for", self.len())));
        };
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let bytes = match begin.checked_sub(self.written) {
            Some(begin) => return self.parsed(&self.tail[begin as usize..(end - self.written) as usize]),
            None => self.read(begin, (end - begin) as usize)?,
        };
        self.parsed(&bytes)
    }

    /// The rows at these places, in their order.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn some(&self, indices: impl IntoIterator<Item = usize>) -> Result<Vec<T>, Error> {
        indices.into_iter().map(|index| self.get(index)).collect()
    }

    /// All rows, from the first.
    pub fn iter(&self) -> impl Iterator<Item = Result<T, Error>> {
        (0..self.len()).map(|index| self.get(index))
    }

    fn parsed(&self, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|error| self.unfit("read", error.to_string()))
    }

    fn unfit(&self, action: &'static str, reason: String) -> Error {
        Error::Row { action, path: self.path.clone(), reason }
    }

    /// Puts the tail behind what is in the file.
    fn write(&mut self) -> Result<(), Error> {
        let Self { io, path, file, written, tail, .. } = self;
        let file = match file {
            Some(file) => file,
            none => none.insert(Mutex::new(io.nameless(path)?)),
        };
        io.write_at(file.get_mut().unwrap_or_else(PoisonError::into_inner), path, *written, tail)?;
        *written += tail.len() as u64;
        tail.clear();
        Ok(())
    }

    fn read(&self, begin: u64, length: usize) -> Result<Vec<u8>, Error> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        self.io.read_at(&mut file.lock().unwrap_or_else(PoisonError::into_inner), &self.path, begin, length)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::faults::{FailAt, Failure};

    fn small(folder: &Path, room: usize) -> RowFile<(String, Vec<u32>)> {
        RowFile { room, ..RowFile::new(&Io::real(), folder) }
    }

    proptest! {
        #[test]
        fn rows_come_back_by_index_in_any_order_whatever_is_in_memory(
            rows in prop::collection::vec((".{0,9}", prop::collection::vec(any::<u32>(), 0..5)), 1..40),
            room in 0_usize..300,
            asked in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
        ) {
            let folder = crate::scratch::folder();
            let mut file = small(folder.path(), room);
            for row in &rows {
                file.push(row).unwrap();
                prop_assert_eq!(&file.get(file.len() - 1).unwrap(), row);
                prop_assert!(file.tail.len() <= room);
            }
            for index in asked {
                let index = index.index(rows.len());
                prop_assert_eq!(&file.get(index).unwrap(), &rows[index]);
            }
            prop_assert_eq!(file.iter().collect::<Result<Vec<_>, _>>().unwrap(), rows);
        }
    }

    #[test]
    fn the_file_has_no_name() {
        let folder = crate::scratch::folder();
        let mut file = small(folder.path(), 0);
        file.push(&("a".into(), vec![1])).unwrap();
        assert!(file.file.is_some() && file.tail.is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_row_that_could_not_be_written_is_not_there_and_the_next_one_is() {
        let folder = crate::scratch::folder();
        for (nth, failure) in [(0, Failure::NoSpace), (1, Failure::NoSpace), (0, Failure::HalfAWrite)] {
            let io = Io::past(Arc::new(FailAt::once(nth, failure)));
            let mut file = RowFile { room: 8, ..RowFile::new(&io, folder.path()) };
            file.push(&"short".to_owned()).unwrap();
            let error = file.push(&"too long for the room".to_owned()).unwrap_err().to_string();
            assert!(error.contains(".bpo-rows-"), "{error}");
            file.push(&"longer than there is room".to_owned()).unwrap();
            let rows: Result<Vec<_>, _> = file.iter().collect();
            assert_eq!(rows.unwrap(), ["short", "longer than there is room"], "{failure}");
        }
    }

    #[test]
    fn a_row_that_json_cannot_hold_or_that_is_not_there_is_an_error() {
        let mut file = RowFile::temporary();
        assert!(file.push(&f64::NAN).unwrap_err().to_string().contains("holds NaN"));
        file.push(&0.1).unwrap();
        assert_eq!(file.get(0).unwrap(), 0.1);
        assert!(file.get(1).unwrap_err().to_string().contains("there are 1 rows, and 1 was asked for"));
    }
}
