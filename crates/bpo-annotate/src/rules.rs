//! Scores that need no model: length, and what a regular expression finds.

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::{Error, Item, Scorer};

/// What a length is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Unicode characters.
    #[default]
    Chars,
    /// Runs of text between white space.
    Words,
    /// Lines.
    Lines,
    /// UTF-8 bytes.
    Bytes,
}

impl Unit {
    /// The length of `text` in this unit.
    pub fn count(self, text: &str) -> usize {
        match self {
            Self::Chars => text.chars().count(),
            Self::Words => text.split_whitespace().count(),
            Self::Lines => text.lines().count(),
            Self::Bytes => text.len(),
        }
    }
}

/// Which length a recipe asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prefer {
    /// The longer response wins.
    #[default]
    Longer,
    /// The shorter response wins.
    Shorter,
}

/// What makes a length good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LengthGoal {
    /// The longer the better.
    #[default]
    Longer,
    /// The shorter the better.
    Shorter,
    /// The nearer to this length the better.
    Near(usize),
}

/// Scores the length of the response: a baseline, and a check that a loop learns at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Length {
    /// What the length is counted in.
    pub unit: Unit,
    /// Which length is good.
    pub goal: LengthGoal,
}

impl Length {
    fn of(&self, response: &str) -> f64 {
        let length = self.unit.count(response);
        match self.goal {
            LengthGoal::Longer => length as f64,
            LengthGoal::Shorter => -(length as f64),
            LengthGoal::Near(target) => -(length.abs_diff(target) as f64),
        }
    }
}

impl Scorer for Length {
    fn name(&self) -> String {
        let unit = format!("{:?}", self.unit).to_lowercase();
        match self.goal {
            LengthGoal::Longer => format!("length (more {unit})"),
            LengthGoal::Shorter => format!("length (fewer {unit})"),
            LengthGoal::Near(target) => format!("length (near {target} {unit})"),
        }
    }

    fn score(&mut self, items: &[Item]) -> Result<Vec<f64>, Error> {
        Ok(items.iter().map(|item| self.of(&item.response)).collect())
    }
}

/// What of a pattern is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counting {
    /// Whether it occurs at all: 0 or 1.
    #[default]
    Presence,
    /// How often it occurs, without overlap.
    Matches,
}

/// Whether a match is good or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// A match is good.
    #[default]
    Present,
    /// A match is bad.
    Absent,
}

/// Scores what a regular expression finds in the response.
#[derive(Debug, Clone)]
pub struct RegexRule {
    pattern: Regex,
    counting: Counting,
    sign: Sign,
}

impl RegexRule {
    /// A rule for `pattern` (the syntax of the `regex` crate: linear time, no look-around).
    ///
    /// # Errors
    /// [`Error::Pattern`] when the pattern does not compile.
    pub fn new(pattern: &str, counting: Counting, sign: Sign) -> Result<Self, Error> {
        let compiled = Regex::new(pattern)
            .map_err(|source| Error::Pattern { pattern: pattern.to_owned(), source: Box::new(source) })?;
        Ok(Self { pattern: compiled, counting, sign })
    }

    fn of(&self, response: &str) -> f64 {
        let found = match self.counting {
            Counting::Presence => usize::from(self.pattern.is_match(response)),
            Counting::Matches => self.pattern.find_iter(response).count(),
        };
        match self.sign {
            Sign::Present => found as f64,
            Sign::Absent => -(found as f64),
        }
    }
}

impl Scorer for RegexRule {
    fn name(&self) -> String {
        match self.sign {
            Sign::Present => format!("regex `{}`", self.pattern),
            Sign::Absent => format!("no regex `{}`", self.pattern),
        }
    }

    fn score(&mut self, items: &[Item]) -> Result<Vec<f64>, Error> {
        Ok(items.iter().map(|item| self.of(&item.response)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_count_what_they_say() {
        let text = "zwölf Boxer\njagen";
        assert_eq!(Unit::Chars.count(text), 17);
        assert_eq!(Unit::Words.count(text), 3);
        assert_eq!(Unit::Lines.count(text), 2);
        assert_eq!(Unit::Bytes.count(text), 18);
    }

    proptest! {
        #[test]
        fn the_nearer_length_wins(length in 0usize..50, target in 0usize..50) {
            let near = Length { goal: LengthGoal::Near(target), ..Length::default() };
            let score = near.of(&"x".repeat(length));
            prop_assert!(score <= near.of(&"x".repeat(target)));
            prop_assert_eq!(score == 0.0, length == target);
        }

        #[test]
        fn shorter_is_the_mirror_of_longer(text in ".*") {
            let shorter = Length { goal: LengthGoal::Shorter, ..Length::default() };
            prop_assert_eq!(shorter.of(&text), -Length::default().of(&text));
        }
    }

    #[test]
    fn a_pattern_is_counted_as_asked() {
        let score = |counting, sign| RegexRule::new("(?i)sorry", counting, sign).unwrap().of("Sorry, so sorry");
        assert_eq!(score(Counting::Presence, Sign::Present), 1.0);
        assert_eq!(score(Counting::Matches, Sign::Present), 2.0);
        assert_eq!(score(Counting::Matches, Sign::Absent), -2.0);
    }

    #[test]
    fn a_pattern_that_does_not_compile_is_named() {
        let error = RegexRule::new("(", Counting::Presence, Sign::Present).unwrap_err();
        assert!(error.to_string().starts_with("regex `(`: "));
    }
}
