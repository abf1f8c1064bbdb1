use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Activation, Error};

/// `config.json` with errors that name its keys.
pub(crate) struct Keys<'a> {
    path: PathBuf,
    pub raw: &'a Value,
}

impl<'a> Keys<'a> {
    pub fn new(path: &Path, raw: &'a Value) -> Self {
        Self { path: path.to_path_buf(), raw }
    }

    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Value, Error> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::Json { path: path.to_path_buf(), reason: error.to_string() })
    }

    pub fn model_type(&self) -> Result<&'a str, Error> {
        let model_type = self.raw.get("model_type").and_then(Value::as_str);
        model_type.ok_or_else(|| self.json("it has no \"model_type\"; is this a Hugging Face model directory?"))
    }

    /// `hidden_size / num_attention_heads`, under whatever names the family has for them.
    pub fn divided(&self, [hidden_key, heads_key]: [&str; 2], hidden: usize, heads: usize) -> Result<usize, Error> {
        if heads > 0 && hidden.is_multiple_of(heads) {
            return Ok(hidden / heads);
        }
        Err(self.json(&format!("{hidden_key} {hidden} is not a multiple of {heads_key} {heads}")))
    }

    /// The nonlinearity that the first of `keys` names, or `default`.
    pub fn activation(&self, keys: &[&str], default: &str) -> Result<Activation, Error> {
        let named = keys.iter().find_map(|key| Some((*key, self.raw.get(key)?.as_str()?)));
        let (key, name) = named.unwrap_or((keys[0], default));
        match name {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu" => Ok(Activation::Gelu),
            "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            other => Err(self.unsupported(key, other, "silu, gelu, gelu_pytorch_tanh, gelu_new, relu")),
        }
    }

    /// The window of each layer by `layer_types`, if they are given.
    pub fn typed_windows(&self, layers: usize, window: Option<usize>) -> Result<Option<Vec<Option<usize>>>, Error> {
        let Some(types) = self.raw.get("layer_types").and_then(Value::as_array) else { return Ok(None) };
        if types.len() != layers {
            return Err(self.json(&format!("layer_types has {} entries for {layers} layers", types.len())));
        }
        types.iter().map(|kind| self.layer_window(kind, window)).collect::<Result<_, _>>().map(Some)
    }

    fn layer_window(&self, kind: &Value, window: Option<usize>) -> Result<Option<usize>, Error> {
        match kind.as_str() {
            Some("full_attention" | "attention") => Ok(None),
            Some("sliding_attention") => Ok(window),
            other => Err(self.unsupported(
                "layer_types",
                other.unwrap_or("not a string"),
                "full_attention, sliding_attention",
            )),
        }
    }

    /// `sliding_window`, which is at least 1.
    pub fn window(&self) -> Result<Option<usize>, Error> {
        match self.size("sliding_window")? {
            Some(0) => Err(self.unsupported("sliding_window", "0", "a window of at least 1")),
            window => Ok(window),
        }
    }

    /// `pad_token_id`, or `default` where the key is absent.
    pub fn pad_token_id(&self, default: Option<u32>) -> Result<Option<u32>, Error> {
        match self.raw.get("pad_token_id") {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64() {
                Some(-1) => Ok(None),
                Some(id) => u32::try_from(id).map(Some).map_err(|_| self.json("pad_token_id is not a token id")),
                None => Err(self.json("pad_token_id is not an integer")),
            },
        }
    }

    pub fn num_labels(&self) -> Result<usize, Error> {
        match self.raw.get("id2label").and_then(Value::as_object) {
            Some(labels) => Ok(labels.len()),
            None => Ok(self.size("num_labels")?.unwrap_or(2)),
        }
    }

    /// Refuses `(key, value, limit)` outside of 1 to the limit.
    pub fn check_sizes(&self, sizes: &[(&str, usize, usize)]) -> Result<(), Error> {
        match sizes.iter().find(|(_, value, limit)| *value == 0 || value > limit) {
            Some((key, value, limit)) => Err(self.unsupported(key, &value.to_string(), &format!("1 to {limit}"))),
            None => Ok(()),
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.raw.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether the key is there, be it with `null`.
    pub fn is_given(&self, key: &str) -> bool {
        self.raw.get(key).is_some()
    }

    pub fn number(&self, object: &Value, key: &str) -> Result<Option<f64>, Error> {
        match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number > 0.0 => Ok(Some(number)),
                _ => Err(self.json(&format!("\"{key}\" must be a number above 0, not {value}"))),
            },
        }
    }

    /// A number of the file's first level; `default` where the key is absent, nothing where it is `null`.
    pub fn number_or(&self, key: &str, default: f64) -> Result<Option<f64>, Error> {
        if self.is_given(key) { self.number(self.raw, key) } else { Ok(Some(default)) }
    }

    pub fn size(&self, key: &str) -> Result<Option<usize>, Error> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(size) => Ok(Some(size)),
                None => Err(self.json(&format!("\"{key}\" must be a whole number, not {value}"))),
            },
        }
    }

    pub fn required(&self, key: &str) -> Result<usize, Error> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_bool() {
                Some(flag) => Ok(Some(flag)),
                None => Err(self.json(&format!("\"{key}\" must be true or false, not {value}"))),
            },
        }
    }

    pub fn json(&self, reason: &str) -> Error {
        Error::Json { path: self.path.clone(), reason: shown(reason) }
    }

    fn missing(&self, key: &str) -> Error {
        self.json(&format!("\"{key}\" is missing"))
    }

    pub fn unsupported(&self, key: &str, value: &str, supported: &str) -> Error {
        Error::Unsupported {
            path: self.path.clone(),
            key: key.to_string(),
            value: shown(value),
            supported: format!("supported: {supported}"),
        }
    }
}

/// The beginning of a text that may repeat a value of the file, which may be of any length.
fn shown(text: &str) -> String {
    const LENGTH: usize = 300;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
