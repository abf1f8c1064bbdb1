//! Looking into a row without repeating its contents.

use serde_json::Value;

use super::Object;
use crate::reader::kind;

/// Where a reference response may be, in order of preference.
pub(super) const RESPONSES: &[&str] = &["label", "reference", "completion", "response", "output"];

/// The value under `key`, unless it is missing or null.
pub(super) fn field<'a>(row: &'a Object, key: &str) -> Option<&'a Value> {
    row.get(key).filter(|value| !value.is_null())
}

/// The string under `key`, `None` if there is none, an error if it is something else.
pub(super) fn string(row: &Object, key: &str) -> Result<Option<String>, String> {
    match field(row, key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong(key, "a string", other)),
    }
}

/// "`key` must be `expected`, not `what it is`".
pub(super) fn wrong(key: &str, expected: &str, found: &Value) -> String {
    format!("`{key}` must be {expected}, not {}", kind(found))
}

/// The error for a row that fits no schema: what it has and what would be accepted.
pub(super) fn unknown_schema(row: &Object, accepted: &str) -> String {
    const SHOWN: usize = 12;
    let named = |(key, value): (&String, &Value)| match value {
        Value::Null => format!("{} (null)", shown(key)),
        _ => shown(key),
    };
    let mut keys: Vec<String> = row.iter().take(SHOWN).map(named).collect();
    if row.len() > SHOWN {
        keys.push("…".to_owned());
    }
    format!("unknown schema: the row has [{}]; accepted: {accepted}", keys.join(", "))
}

/// A key as it may be printed: short and on one line.
fn shown(key: &str) -> String {
    const LENGTH: usize = 32;
    let mut short: String = key.chars().take(LENGTH).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if key.chars().nth(LENGTH).is_some() {
        short.push('…');
    }
    short
}

/// The finite number under `key`, `None` if there is none, an error if it is something else.
pub(crate) fn number(row: &Object, key: &str) -> Result<Option<f64>, String> {
    match field(row, key) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            Some(_) => Err(format!("`{key}` is not finite")),
            None => Err(wrong(key, "a number", value)),
        },
    }
}
