//! Rows from `.jsonl`, `.json`, either gzipped, and `.parquet`, one at a time.

mod parquet;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use serde_json::Value;

use crate::Error;

/// The longest row that is read, in decompressed bytes.
const MAX_ROW: usize = 16 << 20;
/// The largest JSON array that is read, in decompressed bytes.
const MAX_ARRAY: u64 = 1 << 30;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const PARQUET_MAGIC: &[u8] = b"PAR1";
const BOM: &[u8] = b"\xef\xbb\xbf";

/// One row of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// 1-based line where the row starts; of a Parquet file the number of the row.
    pub line: usize,
    /// The row: always a JSON object.
    pub value: Value,
}

/// Reads every row of a JSONL file or a JSON array, gzipped or not, or of a Parquet file.
///
/// The kind is found by content: gzip and Parquet by their magic numbers, an array by the first character. A
/// byte-order mark, CRLF, blank lines and a missing last newline are fine.
///
/// # Errors
/// Names the file and the line of the first row that is not valid UTF-8, not JSON, not an object,
/// nested too deeply or longer than 16 MiB; a damaged gzip stream and a source without rows are
/// errors too.
pub fn read_json_rows(path: &Path) -> Result<Vec<Row>, Error> {
    collect(|keep| each_row_in(Input::File(path), &Source::of_path(path), keep))
}

/// [`read_json_rows`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_json_rows`].
pub fn read_json_rows_from(source: &str, bytes: &[u8]) -> Result<Vec<Row>, Error> {
    collect(|keep| each_row_in(Input::Bytes(source, bytes), &Source(source.to_owned()), keep))
}

fn collect(read: impl FnOnce(&mut Keep<'_, Error>) -> Result<(), Error>) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    read(&mut |row| {
        rows.push(row?);
        Ok(())
    })?;
    Ok(rows)
}

/// The name of what is read, and the errors that carry it.
pub(crate) struct Source(pub(crate) String);

impl Source {
    pub(crate) fn of_path(path: &Path) -> Self {
        Self(path.display().to_string())
    }

    pub(crate) fn row(&self, line: usize, reason: impl Into<String>) -> Error {
        Error::Row { origin: self.0.clone(), line, reason: reason.into() }
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io { path: self.0.clone().into(), source }
    }

    fn no_rows(&self) -> Error {
        Error::NoRows { origin: self.0.clone() }
    }
}

/// Is given every row in turn, or why it is none; an error that it returns ends the reading.
pub(crate) type Keep<'k, E> = dyn FnMut(Result<Row, Error>) -> Result<(), E> + 'k;

/// Where rows come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    /// A file.
    File(&'a Path),
    /// Bytes and their name.
    Bytes(&'a str, &'a [u8]),
}

/// Calls `keep` for each row in order. What hides where the next row begins is an error in any case.
pub(crate) fn each_row_in<E: From<Error>>(input: Input<'_>, source: &Source, keep: &mut Keep<'_, E>) -> Result<(), E> {
    match input {
        Input::Bytes(_, bytes) if bytes.starts_with(PARQUET_MAGIC) => parquet::each_row_of(source, bytes, keep),
        Input::Bytes(_, bytes) => each_text_row(source, bytes, keep),
        Input::File(path) => {
            let file = File::open(path).map_err(|e| source.io(e))?;
            let mut raw = BufReader::with_capacity(1 << 16, file);
            match raw.fill_buf().map_err(|e| source.io(e))?.starts_with(PARQUET_MAGIC) {
                true => parquet::each_row(source, raw.into_inner(), keep),
                false => each_text_row(source, raw, keep),
            }
        }
    }
}

fn each_text_row<E: From<Error>>(source: &Source, mut raw: impl BufRead, keep: &mut Keep<'_, E>) -> Result<(), E> {
    let head = raw.fill_buf().map_err(|e| source.io(e))?;
    if head.starts_with(GZIP_MAGIC) {
        let decoder = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(raw));
        each_plain_row(source, decoder, keep)
    } else {
        each_plain_row(source, raw, keep)
    }
}

fn each_plain_row<E: From<Error>>(source: &Source, reader: impl BufRead, keep: &mut Keep<'_, E>) -> Result<(), E> {
    let mut lines = Lines { source, reader, buffer: Vec::new(), number: 0 };
    let mut is_first = true;
    while lines.advance()? {
        if lines.is_too_long() {
            keep(Err(source.row(lines.number, too_long())))?;
            lines.skip_rest()?;
            is_first = false;
            continue;
        }
        let text = lines.text();
        if text.is_empty() {
            continue;
        }
        // Only the first character decides: a later line that is an array is a bad JSONL row.
        if is_first && text.starts_with(b"[") {
            return each_element(source, lines.number, &lines.into_rest()?, keep);
        }
        is_first = false;
        keep(object(source, lines.number, text))?;
    }
    if is_first { Err(source.no_rows().into()) } else { Ok(()) }
}

/// Lines of a source, each at most [`MAX_ROW`] bytes long.
struct Lines<'a, R> {
    source: &'a Source,
    reader: R,
    buffer: Vec<u8>,
    number: usize,
}

impl<R: BufRead> Lines<'_, R> {
    /// Reads the next line; `false` at the end.
    fn advance(&mut self) -> Result<bool, Error> {
        self.buffer.clear();
        let mut limited = (&mut self.reader).take(MAX_ROW as u64 + 1);
        let read = limited.read_until(b'\n', &mut self.buffer).map_err(|e| self.source.io(e))?;
        self.number += 1;
        Ok(read > 0)
    }

    /// Whether the current line goes on behind what was read of it. (An array may.)
    fn is_too_long(&self) -> bool {
        self.buffer.len() > MAX_ROW && !self.buffer.ends_with(b"\n") && !self.text().starts_with(b"[")
    }

    /// Goes to the end of the current line.
    fn skip_rest(&mut self) -> Result<(), Error> {
        self.reader.skip_until(b'\n').map_err(|e| self.source.io(e))?;
        Ok(())
    }

    /// The current line without surrounding white space and byte-order mark.
    fn text(&self) -> &[u8] {
        let is_first = self.number == 1;
        let line = self.buffer.strip_prefix(BOM).filter(|_| is_first).unwrap_or(&self.buffer);
        line.trim_ascii()
    }

    /// The current line and everything after it.
    fn into_rest(mut self) -> Result<Vec<u8>, Error> {
        let mut rest = std::mem::take(&mut self.buffer);
        let limit = MAX_ARRAY.saturating_sub(rest.len() as u64);
        let read = self.reader.take(limit.saturating_add(1)).read_to_end(&mut rest).map_err(|e| self.source.io(e))?;
        if read as u64 > limit {
            return Err(Error::TooLarge { origin: self.source.0.clone(), limit: MAX_ARRAY });
        }
        Ok(rest)
    }
}

/// Calls `keep` for each element of the JSON array that starts on line `first` of a source.
fn each_element<E: From<Error>>(source: &Source, first: usize, bytes: &[u8], keep: &mut Keep<'_, E>) -> Result<(), E> {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let mut cursor = Cursor { bytes, at: 0, line: first };
    cursor.skip_space();
    cursor.at += 1; // the opening bracket
    cursor.skip_space();
    if cursor.peek() == Some(b']') {
        return Err(source.no_rows().into());
    }
    loop {
        cursor.skip_space();
        let line = cursor.line;
        let element = cursor.element(source)?;
        keep(object(source, line, element))?;
        cursor.skip_space();
        match cursor.peek() {
            Some(b',') => cursor.at += 1,
            Some(b']') => break,
            _ => return Err(source.row(cursor.line, "expected `,` or `]` after this row").into()),
        }
    }
    cursor.at += 1;
    cursor.skip_space();
    match cursor.peek() {
        None => Ok(()),
        Some(_) => Err(source.row(cursor.line, "text after the end of the array").into()),
    }
}

/// A position in a JSON array.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek().filter(u8::is_ascii_whitespace) {
            self.line += usize::from(byte == b'\n');
            self.at += 1;
        }
    }

    /// Steps over one JSON value and returns its bytes.
    fn element(&mut self, source: &Source) -> Result<&'a [u8], Error> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let window = rest.get(..MAX_ROW).unwrap_or(rest);
        let mut values = serde_json::Deserializer::from_slice(window).into_iter::<serde::de::IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {}
            Some(Err(e)) if e.is_eof() && window.len() < rest.len() => {
                return Err(source.row(self.line, too_long()));
            }
            Some(Err(e)) => return Err(source.row(self.line, in_array(&e))),
            None => return Err(source.row(self.line, "the array is not closed")),
        }
        let element = window.get(..values.byte_offset()).unwrap_or_default();
        self.line += element.iter().filter(|&&byte| byte == b'\n').count();
        self.at += element.len();
        Ok(element)
    }
}

/// Parses one row, which must be an object.
fn object(source: &Source, line: usize, bytes: &[u8]) -> Result<Row, Error> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| source.row(line, format!("invalid UTF-8 at byte {} of the row", e.valid_up_to() + 1)))?;
    let value: Value = serde_json::from_str(text).map_err(|e| source.row(line, bad_json(&e)))?;
    match value {
        Value::Object(_) => Ok(Row { line, value }),
        other => Err(source.row(line, format!("the row is {}, not an object", kind(&other)))),
    }
}

fn bad_json(error: &serde_json::Error) -> String {
    format!("bad JSON: {error}")
}

fn in_array(error: &serde_json::Error) -> String {
    format!("bad JSON: {error} of this row")
}

fn too_long() -> String {
    format!("the row is longer than {} MiB", MAX_ROW >> 20)
}

/// The kind of a JSON value, with its article, for error messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
