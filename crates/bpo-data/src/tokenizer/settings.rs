//! What the files beside `tokenizer.json` say: special tokens, stop ids, the chat template.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::Error;

/// The largest tokenizer file that is read.
const MAX_FILE: u64 = 256 << 20;

/// Special tokens by name and id, and the source of the chat template.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) bos: Named,
    pub(super) eos: Option<String>,
    pub(super) pad: Named,
    /// Special tokens without a part of their own here (`unk_token`, `additional_special_tokens`, …).
    others: Vec<String>,
    /// Stop ids of `generation_config.json` and `config.json`.
    stops: Vec<u32>,
    /// Whether BOS comes first, where the configuration says so.
    add_bos: Option<bool>,
    pub(super) template: Option<String>,
    /// Whether models are not told which of two texts a token belongs to.
    pub(super) is_untyped: bool,
}

/// A special token by its text, by an id from a model configuration, or not at all.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) text: Option<String>,
    pub(super) id: Option<u32>,
}

impl Settings {
    /// Reads what there is in a model directory.
    pub(super) fn from_dir(dir: &Path) -> Result<Self, Error> {
        let mut settings = Self::default();
        let object = |name: &str| optional_object(&dir.join(name));
        if let Some((origin, config)) = object("tokenizer_config.json")? {
            settings.read_tokenizer_config(&origin, &config)?;
        }
        if let Some((_, map)) = object("special_tokens_map.json")? {
            settings.read_names(&map);
        }
        for name in ["generation_config.json", "config.json"] {
            if let Some((origin, config)) = object(name)? {
                settings.read_model_config(&origin, &config)?;
            }
        }
        let path = dir.join("chat_template.jinja");
        if let Some(bytes) = optional(&path)? {
            let source = String::from_utf8(bytes).map_err(|_| bad(&path, "not UTF-8"))?;
            settings.template = Some(source);
        }
        Ok(settings)
    }

    /// Reads a `tokenizer_config.json` from memory.
    pub(super) fn from_bytes(tokenizer_config: Option<&[u8]>) -> Result<Self, Error> {
        let mut settings = Self::default();
        if let Some(bytes) = tokenizer_config {
            let path = Path::new("tokenizer_config.json");
            settings.read_tokenizer_config(&path.display().to_string(), &object(path, bytes)?)?;
        }
        Ok(settings)
    }

    /// Reads a `generation_config.json` from memory.
    pub(super) fn read_generation_config(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let path = Path::new("generation_config.json");
        self.read_model_config(&path.display().to_string(), &object(path, bytes)?)
    }

    /// Every token that is special, whatever `tokenizer.json` says.
    pub(super) fn special_names(&self) -> Vec<&str> {
        let named = [&self.bos.text, &self.eos, &self.pad.text];
        named.into_iter().flatten().chain(&self.others).map(String::as_str).collect()
    }

    /// All stop ids, `eos` first.
    pub(super) fn stop_ids(&self, eos: Option<u32>) -> Vec<u32> {
        let mut ids = Vec::new();
        for id in eos.into_iter().chain(self.stops.iter().copied()) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// What comes before a text: `learnt` from the tokenizer, unless `add_bos_token` overrules it.
    pub(super) fn prefix(&self, learnt: Vec<u32>, bos: Option<u32>) -> Vec<u32> {
        match (self.add_bos, bos) {
            (Some(true), Some(bos)) if !learnt.contains(&bos) => vec![bos],
            (Some(false), Some(bos)) if learnt == [bos] => Vec::new(),
            _ => learnt,
        }
    }

    fn read_tokenizer_config(&mut self, origin: &str, config: &Map<String, Value>) -> Result<(), Error> {
        self.read_names(config);
        self.add_bos = config.get("add_bos_token").and_then(Value::as_bool);
        self.is_untyped = is_untyped(config);
        self.template = match config.get("chat_template") {
            None | Some(Value::Null) => None,
            Some(Value::String(source)) => Some(source.clone()),
            Some(Value::Array(named)) => named.iter().find_map(default_template),
            Some(_) => {
                let reason = "`chat_template` must be a string or a list".to_owned();
                return Err(Error::Tokenizer { origin: origin.to_owned(), reason });
            }
        };
        Ok(())
    }

    /// Reads token names; what is known already stays.
    fn read_names(&mut self, config: &Map<String, Value>) {
        let name = |key: &str| config.get(key).and_then(token_text);
        self.bos.text = self.bos.text.take().or_else(|| name("bos_token"));
        self.eos = self.eos.take().or_else(|| name("eos_token"));
        self.pad.text = self.pad.text.take().or_else(|| name("pad_token"));
        self.others.extend(["unk_token", "sep_token", "cls_token", "mask_token"].iter().filter_map(|key| name(key)));
        if let Some(Value::Array(more)) = config.get("additional_special_tokens") {
            self.others.extend(more.iter().filter_map(token_text));
        }
        if let Some(Value::Object(added)) = config.get("added_tokens_decoder") {
            let is_special = |token: &&Value| token.get("special") == Some(&Value::Bool(true));
            self.others.extend(added.values().filter(is_special).filter_map(token_text));
        }
    }

    /// Reads token ids; what is known already stays.
    fn read_model_config(&mut self, origin: &str, config: &Map<String, Value>) -> Result<(), Error> {
        let ids = |key: &str| {
            token_ids(config.get(key))
                .map_err(|reason| Error::Tokenizer { origin: origin.to_owned(), reason: format!("`{key}` {reason}") })
        };
        self.bos.id = self.bos.id.or(ids("bos_token_id")?.first().copied());
        self.pad.id = self.pad.id.or(ids("pad_token_id")?.first().copied());
        self.stops.extend(ids("eos_token_id")?);
        Ok(())
    }
}

/// Whether `transformers` gives a model no `token_type_ids`: where `model_input_names` leaves them out, and without
/// that list where the class is a generic one, whose list has none.
fn is_untyped(config: &Map<String, Value>) -> bool {
    const GENERIC: [&str; 2] = ["TokenizersBackend", "PreTrainedTokenizerFast"];
    match config.get("model_input_names") {
        Some(Value::Array(names)) => !names.iter().any(|name| name == "token_type_ids"),
        _ => config.get("tokenizer_class").and_then(Value::as_str).is_some_and(|class| GENERIC.contains(&class)),
    }
}

/// A token is its text or an object that holds it.
fn token_text(value: &Value) -> Option<String> {
    let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// An id, a list of ids, or null.
fn token_ids(value: Option<&Value>) -> Result<Vec<u32>, &'static str> {
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or("must be an id or a list of ids")
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        // Old configurations write -1 for "none".
        Some(Value::Number(number)) if number.as_i64() == Some(-1) => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(id).collect(),
        Some(other) => id(other).map(|id| vec![id]),
    }
}

/// The source of a `{"name": "default", "template": …}` entry.
fn default_template(entry: &Value) -> Option<String> {
    let is_default = entry.get("name")?.as_str()? == "default";
    entry.get("template")?.as_str().filter(|_| is_default).map(str::to_owned)
}

/// The bytes of a file that must be there.
pub(super) fn required(path: &Path) -> Result<Vec<u8>, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    if read as u64 > MAX_FILE {
        return Err(Error::TooLarge { origin: path.display().to_string(), limit: MAX_FILE });
    }
    Ok(bytes)
}

fn optional(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match required(path) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// A JSON object and the name of the file it came from.
type NamedObject = (String, Map<String, Value>);

fn optional_object(path: &Path) -> Result<Option<NamedObject>, Error> {
    let Some(bytes) = optional(path)? else { return Ok(None) };
    Ok(Some((path.display().to_string(), object(path, &bytes)?)))
}

fn object(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(bad(path, "not a JSON object")),
        Err(error) => Err(bad(path, format!("bad JSON: {error}"))),
    }
}

fn bad(path: &Path, reason: impl Into<String>) -> Error {
    Error::Tokenizer { origin: path.display().to_string(), reason: reason.into() }
}
