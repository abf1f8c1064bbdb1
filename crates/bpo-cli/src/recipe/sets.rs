//! `--set key=value`.
use toml::{Table, Value};

use crate::failure::Failure;

/// Keys without which another one's default would be used: nobody means that by an empty value.
const NEEDED: [&str; 4] = ["prompts", "data", "outcomes", "annotator"];

/// One `--set`, taken apart.
#[derive(Debug, PartialEq)]
pub struct Setting {
    keys: Vec<String>,
    /// `None` takes the key out.
    value: Option<Value>,
}

impl Setting {
    /// Reads `a.b=VALUE`; what is not a TOML value is a string.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let bad = |reason: &str| Failure::usage(format!("--set {text}: {reason}, as in --set beta=0.2"));
        let (keys, value) = text.split_once('=').ok_or_else(|| bad("expected key=value"))?;
        let keys: Vec<String> = keys.split('.').map(|key| key.trim().to_owned()).collect();
        if keys.iter().any(String::is_empty) {
            return Err(bad("the key is empty"));
        }
        let value = Some(value.trim()).filter(|value| !value.is_empty()).map(toml_value);
        if value.is_none() && keys.len() == 1 && NEEDED.contains(&keys[0].as_str()) {
            return Err(bad("the value is empty"));
        }
        Ok(Self { keys, value })
    }

    /// When it is applied: what is inside of the annotator or the sampler after the thing itself, its kind first.
    pub fn turn(&self) -> u8 {
        match self.keys.as_slice() {
            [outer, inner] if outer == "annotator" || outer == "sampler" => 1 + u8::from(inner != "kind"),
            _ => 0,
        }
    }

    /// Whether the setting takes `key` out.
    pub fn removes(&self, key: &str) -> bool {
        self.value.is_none() && self.keys == [key]
    }

    /// Whether the setting is `key` or something inside of it.
    pub fn is_below(&self, key: &str) -> bool {
        self.keys[0] == key
    }

    /// Puts the value in its place. Another `kind` makes a table anew: the other keys were the old one's.
    pub fn apply(&self, table: &mut Table) -> Result<(), Failure> {
        let Some((last, outer)) = self.keys.split_last() else { return Ok(()) };
        let mut place = table;
        for (depth, key) in outer.iter().enumerate() {
            let inner = place.entry(key).or_insert_with(|| Value::Table(Table::new()));
            if last == "kind" && depth + 1 == outer.len() && inner.get("kind") != self.value.as_ref() {
                *inner = Value::Table(Table::new());
            }
            place = inner.as_table_mut().ok_or_else(|| {
                let whole = outer[..=depth].join(".");
                Failure::usage(format!("--set {}: `{whole}` is not a table", self.keys.join(".")))
            })?;
        }
        match &self.value {
            Some(value) => drop(place.insert(last.clone(), value.clone())),
            None => drop(place.remove(last)),
        }
        Ok(())
    }
}

/// `text` as a TOML value; as a string where it is none, and for dates, which no key wants.
fn toml_value(text: &str) -> Value {
    let parsed: Option<Table> = format!("value = {text}").parse().ok().filter(|table: &Table| table.len() == 1);
    match parsed.and_then(|mut table| table.remove("value")) {
        Some(value) if !value.is_datetime() => value,
        _ => Value::String(text.to_owned()),
    }
}
