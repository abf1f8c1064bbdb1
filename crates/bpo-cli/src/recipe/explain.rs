//! From a table to settings, with errors that name the key and what was probably meant.
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::{failure::Failure, nearest::nearest};

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
