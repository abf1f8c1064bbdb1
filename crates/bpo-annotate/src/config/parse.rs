//! From the text of a recipe to settings: strings, tables, and errors that name the key.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{AnnotatorConfig, AnnotatorKind, LengthConfig, LexiconConfig, RewardModelConfig};
use crate::split_words;

impl<'de> Deserialize<'de> for AnnotatorConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StringOrTable)
    }
}

/// Not an untagged enum: its errors would not name the key.
struct StringOrTable;

impl<'de> Visitor<'de> for StringOrTable {
    type Value = AnnotatorConfig;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an annotator: a string or a table with `kind`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        named(text).map(AnnotatorConfig::from).ok_or_else(|| {
            E::custom(format!(
                "unknown annotator `{text}`: expected `lexicon`, `length`, the path of a \
                 lexicon (.txt) or of a reward model, or a table with `kind`"
            ))
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut table = Map::deserialize(MapAccessDeserializer::new(map))?;
        let both_orders = match table.remove("both_orders") {
            None => false,
            Some(Value::Bool(both)) => both,
            Some(other) => {
                let message = format!("`both_orders` is {other}: expected true or false");
                return Err(A::Error::custom(message));
            }
        };
        let kind = AnnotatorKind::deserialize(Value::Object(table)).map_err(A::Error::custom)?;
        Ok(AnnotatorConfig { kind, both_orders })
    }
}

/// What an annotator given as a string means.
fn named(text: &str) -> Option<AnnotatorKind> {
    let path = PathBuf::from(text);
    match text {
        "lexicon" => Some(AnnotatorKind::Lexicon(LexiconConfig::default())),
        "length" => Some(AnnotatorKind::Length(LengthConfig::default())),
        _ if path.extension().is_some_and(|ending| ending == "txt") => {
            let path = Some(path);
            Some(AnnotatorKind::Lexicon(LexiconConfig { path }))
        }
        _ if text.contains(['/', '\\']) => Some(AnnotatorKind::RewardModel(RewardModelConfig { path })),
        _ => None,
    }
}

/// A program as a list of words, or as one string to be split.
pub(super) fn program<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    from.deserialize_any(Words)
}

struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = Vec<String>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a command: a string or a list of strings")
    }

    fn visit_str<E: serde::de::Error>(self, line: &str) -> Result<Self::Value, E> {
        split_words(line).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element::<String>()? {
            words.push(word);
        }
        match words.first().is_some_and(|program| !program.is_empty()) {
            true => Ok(words),
            false => Err(A::Error::custom("`program` names no program")),
        }
    }
}
