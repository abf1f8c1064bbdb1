//! From the text of a recipe to settings: strings, tables, and errors that name the key.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{
    AnnotatorConfig, AnnotatorKind, ChatConfig, LengthConfig, LexiconConfig, PanelConfig, RewardModelConfig,
    ServiceConfig,
};
use crate::{Combine, ServiceUrl, split_words};

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
        out.write_str("an annotator: a string, a table with `kind`, or a list of these")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.starts_with("http://") || text.starts_with("https://") {
            let url = ServiceUrl::new(text).map_err(E::custom)?;
            return Ok(AnnotatorKind::Chat(ChatConfig::at(url)).into());
        }
        named(text).map(AnnotatorConfig::from).ok_or_else(|| {
            E::custom(format!(
                "unknown annotator `{text}`: expected `lexicon`, `length`, the path of a lexicon (.txt) or of a reward \
                 model, the address of an OpenAI-compatible server, or a table with `kind`"
            ))
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = list.next_element()? {
            members.push(member);
        }
        Ok(AnnotatorKind::Panel(PanelConfig { combine: Combine::default(), weights: Vec::new(), members }).into())
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
        let order = table.remove("order").map(serde_json::from_value).transpose();
        let order = order.map_err(|error| A::Error::custom(format!("`order`: {error}")))?;
        let is_remote = matches!(table.get("kind").and_then(Value::as_str), Some("chat" | "reward_endpoint"));
        let service = if is_remote { Some(service(&mut table).map_err(A::Error::custom)?) } else { None };
        let kind = AnnotatorKind::deserialize(Value::Object(table));
        let kind = kind.map_err(|error| A::Error::custom(with_shared_keys(&error.to_string(), is_remote)))?;
        Ok(AnnotatorConfig { kind, both_orders, order, service })
    }
}

/// Takes the keys that every service has out of a table.
fn service(table: &mut Map<String, Value>) -> Result<ServiceConfig, serde_json::Error> {
    let keys = ServiceConfig::KEYS.into_iter();
    let shared = keys.filter_map(|key| Some((key.to_owned(), table.remove(key)?))).collect();
    serde_json::from_value(Value::Object(shared))
}

/// A complaint about an unknown key names all that are known.
fn with_shared_keys(message: &str, is_remote: bool) -> String {
    if !(is_remote && message.starts_with("unknown field")) {
        return message.to_owned();
    }
    let keys = ServiceConfig::KEYS.into_iter().chain(["both_orders", "order"]);
    format!("{message}{}", keys.map(|key| format!(", `{key}`")).collect::<String>())
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
