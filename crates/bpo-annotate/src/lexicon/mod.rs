//! Sentiment by lexicon: VADER's words and VADER's rules.

mod text;
mod valence;
mod words;

use std::collections::HashMap;
use std::path::Path;

use crate::{Error, Item, Scorer};

/// The largest value of a word (VADER's are within ±4): sums of these stay finite.
const LARGEST: f64 = 1e6;

/// A sentiment lexicon with VADER's rules: negation, degree words, capitals, "but" and
/// punctuation. The score is the *compound* of the response alone, between -1 and 1.
///
/// It follows the reference implementation `vaderSentiment` 3.3.2, quirks included, with two
/// differences: the compound is not rounded to four digits (rounding would invent ties), and
/// emoji are not spelled out, so they count as neutral words.
///
/// C.J. Hutto and E.E. Gilbert, *VADER: A Parsimonious Rule-based Model for Sentiment
/// Analysis of Social Media Text*, ICWSM 2014.
#[derive(Debug, Clone)]
pub struct Lexicon {
    name: String,
    words: HashMap<String, f64>,
}

impl Lexicon {
    /// Reads VADER's file (`token`, mean, deviation and ratings, separated by tabs) or a
    /// file of our own with two columns, `word <tab> value`.
    ///
    /// # Errors
    /// [`Error::Read`] and those of [`Lexicon::from_bytes`].
    pub fn vader(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&path.display().to_string(), &bytes)
    }

    /// As [`Lexicon::vader`], from memory; `name` appears in messages and in the run record.
    /// Of a word given twice the last value counts.
    ///
    /// # Errors
    /// [`Error::LexiconLine`] for a line that is not UTF-8, not two columns, or whose value
    /// is not a number of reasonable size; [`Error::LexiconEmpty`] when no line is left.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut words = HashMap::new();
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let entry =
                entry(line).map_err(|reason| Error::LexiconLine { name: name.to_owned(), line: at + 1, reason })?;
            words.extend(entry);
        }
        if words.is_empty() {
            return Err(Error::LexiconEmpty { name: name.to_owned() });
        }
        Ok(Self { name: name.to_owned(), words })
    }

    /// The sentiment of a text, from -1 (negative) over 0 (neutral) to 1 (positive).
    pub fn compound(&self, text: &str) -> f64 {
        valence::compound(&self.words, text)
    }

    /// How many words it knows.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Never true: an empty lexicon is refused when it is read.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// The word and the value of one line; `None` for a blank line.
fn entry(line: &[u8]) -> Result<Option<(String, f64)>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let mut columns = line.split('\t');
    let (Some(word), Some(value)) = (columns.next(), columns.next()) else {
        return Err("expected `word <tab> value`".to_owned());
    };
    match value.trim().parse::<f64>() {
        Ok(number) if number.abs() <= LARGEST => Ok(Some((word.to_owned(), number))),
        _ => Err(format!("`{value}` is not a number within ±{LARGEST}")),
    }
}

impl Scorer for Lexicon {
    fn name(&self) -> String {
        format!("lexicon {}", self.name)
    }

    fn score(&mut self, items: &[Item]) -> Result<Vec<f64>, Error> {
        let compound = |item: &Item| self.compound(&item.response);
        Ok(items.iter().map(compound).collect())
    }
}

#[cfg(test)]
mod tests;
