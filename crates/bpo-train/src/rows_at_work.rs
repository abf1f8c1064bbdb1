//! Work on rows that do not fit into memory: in their order, a batch at a time, the rows of a batch on all cores.
use std::{
    panic::resume_unwind,
    thread::{available_parallelism, scope},
};

use bpo_data::{FromRow, Rows};
use bpo_store::{RowFile, RunDir};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Observer, Stage};

/// Bytes of text, and rows, that a batch ends after.
const BATCH: [usize; 2] = [1 << 20, 1 << 14];

/// Makes an `S` of each of `rows`, or leaves it out, has it worked on, and gives both to `keep`, row by row. Rows that are more than a
/// batch are a [`Stage::Tokenise`].
///
/// # Errors
/// Those of the rows, of `make` and of `keep`; [`Error::Interrupted`] between two batches.
pub(crate) fn worked<T: FromRow + Clone, S: Send + Sync, W: Send>(
    rows: &Rows<T>,
    observer: &mut dyn Observer,
    mut make: impl FnMut(T) -> Result<Option<S>, Error>,
    work: impl Fn(&S) -> W + Sync,
    mut keep: impl FnMut(S, W) -> Result<(), Error>,
) -> Result<(), Error> {
    let threads = available_parallelism().map_or(1, usize::from);
    let (mut batch, mut bytes, mut read, mut done) = (Vec::new(), 0, 0, 0);
    let mut finish = |batch: &mut Vec<S>| -> Result<(), Error> {
        let worked = on_all_cores(batch, threads, &work);
        batch.drain(..).zip(worked).try_for_each(|(row, worked)| keep(row, worked))
    };
    rows.each(|row| -> Result<(), Error> {
        (bytes, read) = (bytes + row.bytes(), read + 1);
        batch.extend(make(row)?);
        if bytes < BATCH[0] && batch.len() < BATCH[1] {
            return Ok(());
        }
        if done == 0 {
            observer.begin(Stage::Tokenise, rows.len() as u64);
        }
        (done, bytes) = (read, 0);
        finish(&mut batch)?;
        observer.advance(done);
        if observer.interrupted() {
            observer.end();
            return Err(Error::Interrupted);
        }
        Ok(())
    })?;
    finish(&mut batch)?;
    if done > 0 {
        observer.end();
    }
    Ok(())
}

fn on_all_cores<S: Sync, W: Send>(batch: &[S], threads: usize, work: &(impl Fn(&S) -> W + Sync)) -> Vec<W> {
    // More parts than threads would be of use only where rows differ much.
    let part = batch.len().div_ceil(threads).max(1);
    if batch.len() <= part {
        return batch.iter().map(work).collect();
    }
    scope(|scope| {
        let parts: Vec<_> =
            batch.chunks(part).map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<W>>())).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// A file of rows in the folder of a run, or where the system has its temporary files.
pub(crate) fn rows_in<T: Serialize + DeserializeOwned>(dir: Option<&RunDir>) -> RowFile<T> {
    dir.map_or_else(RowFile::temporary, RunDir::rows)
}

#[cfg(test)]
mod tests {
    use bpo_data::{Prompt, PromptRow};
    use proptest::prelude::*;

    use super::*;
    use crate::Silent;

    proptest! {
        #[test]
        fn any_number_of_threads_gives_what_one_gives(rows in prop::collection::vec(any::<u32>(), 0..40), threads in 1_usize..9) {
            let work = |row: &u32| u64::from(*row) * 3;
            prop_assert_eq!(on_all_cores(&rows, threads, &work), rows.iter().map(work).collect::<Vec<_>>());
        }
    }

    /// Asks to stop as soon as it has heard of anything.
    #[derive(Default)]
    struct Hasty(Vec<u64>);

    impl Observer for Hasty {
        fn begin(&mut self, _: Stage, total: u64) {
            self.0.push(total);
        }
        fn advance(&mut self, done: u64) {
            self.0.push(done);
        }
        fn end(&mut self) {}
        fn step(&mut self, _: u64, _: u64, _: &serde_json::Map<String, serde_json::Value>) {}
        fn note(&mut self, _: &str) {}
        fn interrupted(&self) -> bool {
            !self.0.is_empty()
        }
    }

    fn rows(count: usize, bytes: usize) -> Rows<PromptRow> {
        let row = |id| PromptRow { id, line: id + 1, prompt: Prompt::Text("x".repeat(bytes)), reference: None };
        (0..count).map(row).collect::<Vec<_>>().into()
    }

    fn kept(rows: &Rows<PromptRow>, observer: &mut dyn Observer) -> (Result<(), Error>, Vec<(usize, usize)>) {
        let mut kept = Vec::new();
        let done = worked(
            rows,
            observer,
            |row| Ok(Some(row)),
            |row| row.line,
            |row, line| {
                kept.push((row.id, line));
                Ok(())
            },
        );
        (done, kept)
    }

    #[test]
    fn rows_are_kept_in_their_order_over_all_batches() {
        let (done, kept) = kept(&rows(40, BATCH[0] / 7), &mut Silent);
        done.unwrap();
        assert_eq!(kept, (0..40).map(|id| (id, id + 1)).collect::<Vec<_>>());
    }

    #[test]
    fn the_wish_to_stop_is_heeded_after_a_batch() {
        let mut hasty = Hasty::default();
        let (done, kept) = kept(&rows(40, BATCH[0] / 7), &mut hasty);
        assert!(matches!(done, Err(Error::Interrupted)));
        assert_eq!((hasty.0, kept.len()), (vec![40, 8], 8));
    }
}
