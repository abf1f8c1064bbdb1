//! All rows of one kind, read as often as they are needed and never held, or held where they are few.

use std::path::{Path, PathBuf};

use crate::{BadLines, Error, FromRow, Read, RowReader};

/// The rows of a file, which is read anew each time they are asked for, or rows that are in memory.
///
/// ```
/// use bpo_data::{Error, PromptRow, Rows, read_prompts_from};
///
/// let rows = Rows::from(read_prompts_from("here", b"{\"prompt\": \"Once\"}\n{\"prompt\": \"Twice\"}")?);
/// let mut lines = Vec::new();
/// rows.each(|row: PromptRow| {
///     lines.push(row.line);
///     Ok::<_, Error>(())
/// })?;
/// assert_eq!((rows.len(), lines), (2, vec![1, 2]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rows<T>(Place<T>);

#[derive(Clone, Debug, PartialEq)]
enum Place<T> {
    Held(Vec<T>),
    File { path: PathBuf, bad_lines: BadLines, len: usize },
}

impl<T: FromRow + Clone> Rows<T> {
    /// Reads `path` from its beginning to its end, so that all that is wrong with it is found, and keeps no row; the second
    /// value says what was left out. What can be read only once, a pipe for instance, is held.
    ///
    /// # Errors
    /// As [`RowReader::all`].
    pub fn of_file(path: &Path, bad_lines: BadLines) -> Result<(Self, Read<T>), Error> {
        let reader = RowReader::file(path).with_bad_lines(bad_lines);
        if path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            let mut read = reader.all()?;
            return Ok((std::mem::take(&mut read.rows).into(), read));
        }
        let mut len = 0;
        let read = reader.each(|_: T| {
            len += 1;
            Ok::<_, Error>(())
        })?;
        Ok((Self(Place::File { path: path.to_owned(), bad_lines, len }), read))
    }

    /// Gives every row to `each`, from the first; what it returns ends the reading.
    ///
    /// # Errors
    /// As [`RowReader::each`].
    pub fn each<E: From<Error>>(&self, each: impl FnMut(T) -> Result<(), E>) -> Result<(), E> {
        match &self.0 {
            Place::Held(rows) => rows.iter().cloned().try_for_each(each),
            Place::File { path, bad_lines, .. } => {
                RowReader::file(path).with_bad_lines(*bad_lines).each(each).map(drop)
            }
        }
    }
}

impl<T> Rows<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Held(rows) => rows.len(),
            Place::File { len, .. } => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> From<Vec<T>> for Rows<T> {
    fn from(rows: Vec<T>) -> Self {
        Self(Place::Held(rows))
    }
}

impl<T> FromIterator<T> for Rows<T> {
    fn from_iter<I: IntoIterator<Item = T>>(rows: I) -> Self {
        Vec::from_iter(rows).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::PromptRow;

    fn all(rows: &Rows<PromptRow>) -> Vec<PromptRow> {
        let mut all = Vec::new();
        rows.each(|row| {
            all.push(row);
            Ok::<_, Error>(())
        })
        .unwrap();
        all
    }

    proptest! {
        #[test]
        fn a_file_gives_the_rows_that_are_held_as_often_as_it_is_asked(texts in prop::collection::vec(".{1,12}", 1..30)) {
            let lines: Vec<String> = texts.iter().map(|text| serde_json::json!({"prompt": text}).to_string()).collect();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), lines.join("\n")).unwrap();
            let (rows, read) = Rows::<PromptRow>::of_file(file.path(), BadLines::Stop).unwrap();
            let held = Rows::from(crate::read_prompts(file.path()).unwrap());
            prop_assert_eq!((rows.len(), read.rows.len()), (texts.len(), 0));
            prop_assert_eq!(all(&rows), all(&held));
            prop_assert_eq!(all(&rows), all(&held));
        }
    }

    #[test]
    fn a_bad_row_is_found_when_the_file_is_opened_or_counted_and_skipped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"prompt\":\"a\"}\n{\"prompt\":1}\n{\"prompt\":\"b\"}\n").unwrap();
        let error = Rows::<PromptRow>::of_file(file.path(), BadLines::Stop).unwrap_err().to_string();
        assert!(error.contains(":2: "), "{error}");
        let (rows, read) = Rows::<PromptRow>::of_file(file.path(), BadLines::Skip).unwrap();
        assert_eq!((rows.len(), read.bad), (2, 1));
        assert_eq!(all(&rows).iter().map(|row| (row.id, row.line)).collect::<Vec<_>>(), [(0, 1), (1, 3)]);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_once_and_held() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        if !std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|made| made.success()) {
            println!("skipped: a_pipe_is_read_once_and_held: no mkfifo");
            return;
        }
        let end = pipe.clone();
        let writer = std::thread::spawn(move || std::fs::write(end, "{\"prompt\":\"a\"}\n").unwrap());
        let (rows, _) = Rows::<PromptRow>::of_file(&pipe, BadLines::Stop).unwrap();
        writer.join().unwrap();
        assert_eq!((all(&rows).len(), all(&rows).len()), (1, 1));
    }
}
