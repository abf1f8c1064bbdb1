//! From a table to settings, with errors that name the key and what was probably meant.
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::failure::Failure;

/// The settings `T` in `table`; `what` names the recipe in errors.
///
/// # Errors
/// A usage error: an unknown key with the nearest known one, or the key whose value is wrong.
pub fn parse<T: DeserializeOwned>(table: &Table, what: &str) -> Result<T, Failure> {
    let error = match attempt::<T>(table) {
        Ok(settings) => return Ok(settings),
        Err(error) => error,
    };
    let message = error.message().trim_end();
    let told = unknown_key(message).unwrap_or_else(|| in_words(&with_key::<T>(table, message)));
    Err(Failure::usage(format!("{what}: {told}")))
}

/// What a message about an unknown key should say: the key, and the one that was probably meant.
pub(super) fn unknown_key(message: &str) -> Option<String> {
    let (key, known) = unknown_field(message)?;
    let hint = match nearest(key, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "no keys are known there".to_owned(),
        None => format!("known: {}", known.join(", ")),
    };
    Some(format!("unknown key `{key}`; {hint}"))
}

fn attempt<T: DeserializeOwned>(table: &Table) -> Result<T, toml::de::Error> {
    Value::Table(table.clone()).try_into()
}

/// Puts the key in front of a message: the one without which the message is another.
fn with_key<T: DeserializeOwned>(table: &Table, message: &str) -> String {
    let is_culprit = |key: &&String| {
        let mut rest = table.clone();
        rest.remove(*key);
        attempt::<T>(&rest).err().is_none_or(|error| error.message().trim_end() != message)
    };
    match table.keys().find(is_culprit) {
        Some(key) if !message.contains(&format!("`{key}`")) => format!("`{key}`: {message}"),
        _ => message.to_owned(),
    }
}

/// Rust's names of numbers in plain words.
fn in_words(message: &str) -> String {
    let Some((before, expected)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let words = match expected {
        "f64" | "f32" => "a number",
        "u64" | "u32" | "usize" => "a whole number, 0 or above",
        "i64" | "i32" | "isize" => "a whole number",
        _ => return message.to_owned(),
    };
    format!("{before}expected {words}")
}

/// Takes serde's "unknown field `x`, expected one of `a`, `b`" apart.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.split_once("unknown field `")?.1;
    let (key, rest) = rest.split_once('`')?;
    // Known keys are every second piece between backquotes, on the same line.
    let known = rest.lines().next().unwrap_or_default().split('`').skip(1).step_by(2).collect();
    Some((key, known))
}

/// The known key that was probably meant.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |candidate: &&str| edit_distance(key, candidate);
    let best = known.iter().min_by_key(|candidate| distance(candidate))?;
    (distance(best) <= key.chars().count().max(best.chars().count()) / 3).then_some(*best)
}

/// Characters inserted, deleted or replaced (Levenshtein 1966).
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, d) in [("", "", 0), ("beta", "beta", 0), ("bta", "beta", 1), ("kitten", "sitting", 3), ("", "ab", 2)]
        {
            assert_eq!(edit_distance(a, b), d, "{a} {b}");
            assert_eq!(edit_distance(b, a), d, "{b} {a}");
        }
    }
}
