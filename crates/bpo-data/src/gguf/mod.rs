//! The tokenizer of a GGUF file, as the files of a Hugging Face directory.

mod bpe;
mod pieces;
mod split;

use std::path::Path;

use bpo_files::gguf::{self, Gguf, Texts};
use serde_json::{Map, Value, json};

use crate::{Error, Tokenizer};

/// How many tokens a vocabulary may have, as of models.
const MAX_TOKENS: usize = 1 << 22;

/// Types of tokens, as ggml numbers them.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// The tokenizer of a GGUF file as `tokenizer.json`, `tokenizer_config.json` (with the chat template) and
/// `generation_config.json`, `(name, bytes)`.
///
/// # Errors
/// [`Error::Files`] for a file that cannot be read; [`Error::Tokenizer`] for a kind of tokenizer, or a pre-tokenizer, that
/// is not known.
pub fn gguf_tokenizer_files(path: &Path) -> Result<[(&'static str, Vec<u8>); 3], Error> {
    let gguf = gguf::open(path)?;
    let files = files(&gguf)?;
    Ok(files.map(|(name, value)| (name, value.to_string().into_bytes())))
}

impl Tokenizer {
    /// The tokenizer of a GGUF file, with its special tokens and its chat template.
    ///
    /// # Errors
    /// As [`gguf_tokenizer_files`].
    pub fn from_gguf(path: &Path) -> Result<Self, Error> {
        let [(_, tokenizer), (_, config), (_, generation)] = gguf_tokenizer_files(path)?;
        Self::from_files(&path.display().to_string(), &tokenizer, &config, &generation)
    }
}

fn files(gguf: &Gguf) -> Result<[(&'static str, Value); 3], Error> {
    let vocabulary = Vocabulary::of(gguf)?;
    let tokenizer = match vocabulary.model {
        "gpt2" => bpe::tokenizer(&vocabulary)?,
        "llama" => pieces::tokenizer(&vocabulary)?,
        other => {
            let reason = format!("tokenizer.ggml.model is {other}, which is not known; gpt2 and llama are");
            return Err(vocabulary.error(reason));
        }
    };
    let name = |id: Option<u32>| id.and_then(|id| vocabulary.tokens.get(id as usize));
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": vocabulary.add_bos,
        "bos_token": name(vocabulary.bos),
        "eos_token": name(vocabulary.eos),
        "unk_token": name(vocabulary.unknown),
        "pad_token": name(vocabulary.pad),
        "clean_up_tokenization_spaces": false,
        "chat_template": gguf.text("tokenizer.chat_template")?,
    });
    let stops: Vec<u32> = [vocabulary.eos, vocabulary.end_of_turn].into_iter().flatten().collect();
    let generation = json!({"bos_token_id": vocabulary.bos, "eos_token_id": stops, "pad_token_id": vocabulary.pad});
    Ok([
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", without_nulls(config)),
        ("generation_config.json", without_nulls(generation)),
    ])
}

/// What all kinds of tokenizers have.
struct Vocabulary<'a> {
    gguf: &'a Gguf,
    model: &'a str,
    tokens: &'a Texts,
    /// Types of tokens; all are normal where the file says nothing.
    types: &'a [i64],
    bos: Option<u32>,
    eos: Option<u32>,
    end_of_turn: Option<u32>,
    unknown: Option<u32>,
    pad: Option<u32>,
    add_bos: bool,
}

impl<'a> Vocabulary<'a> {
    fn of(gguf: &'a Gguf) -> Result<Self, Error> {
        let error = |reason: String| Error::from(gguf.error(reason));
        let missing = |key: &str| error(format!("it has no {key}, and so no tokenizer; give one with --tokenizer"));
        let model = gguf.text("tokenizer.ggml.model")?.ok_or_else(|| missing("tokenizer.ggml.model"))?;
        let tokens = gguf.texts("tokenizer.ggml.tokens")?.ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
        if tokens.is_empty() || tokens.len() > MAX_TOKENS {
            return Err(error(format!("it has {} tokens; 1 to {MAX_TOKENS} are read", tokens.len())));
        }
        let types = gguf.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
        if !types.is_empty() && types.len() != tokens.len() {
            return Err(error(format!("it has {} types of {} tokens", types.len(), tokens.len())));
        }
        let is_sentence_piece = model == "llama";
        let id = |name: &str, default: Option<u32>| match gguf.size(&format!("tokenizer.ggml.{name}_token_id"))? {
            None => Ok(default.filter(|_| is_sentence_piece)),
            Some(id) if id < tokens.len() => Ok(Some(id as u32)),
            // "None", by files of some age.
            Some(id) if id == u32::MAX as usize => Ok(None),
            Some(id) => Err(error(format!("tokenizer.ggml.{name}_token_id is {id} of {} tokens", tokens.len()))),
        };
        let begins = is_sentence_piece || gguf.text("tokenizer.ggml.pre")?.is_some_and(split::begins_with_bos);
        Ok(Self {
            gguf,
            model,
            tokens,
            types,
            bos: id("bos", Some(1))?,
            eos: id("eos", Some(2))?,
            end_of_turn: id("eot", None)?,
            unknown: id("unknown", Some(0))?,
            pad: id("padding", None)?,
            add_bos: gguf.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(begins),
        })
    }

    fn kind(&self, id: usize) -> i64 {
        self.types.get(id).copied().unwrap_or(NORMAL)
    }

    /// `vocab` of `tokenizer.json`: every token, the special ones too, so that all keep their ids.
    fn ids(&self) -> Map<String, Value> {
        self.tokens.iter().enumerate().map(|(id, token)| (token.to_owned(), json!(id))).collect()
    }

    /// `added_tokens`: control tokens, which no text spells, and those of the user, which any text does.
    fn added(&self, normalized: bool) -> Vec<Value> {
        let is_added = |kind: i64| [UNKNOWN, CONTROL, USER_DEFINED].contains(&kind);
        let tokens = self.tokens.iter().enumerate().filter(|(id, token)| is_added(self.kind(*id)) && !token.is_empty());
        let entry = |(id, token): (usize, &str)| {
            let special = self.kind(id) != USER_DEFINED;
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": normalized && !special, "special": special})
        };
        tokens.map(entry).collect()
    }

    /// What puts BOS before a text, where that is done.
    fn post_processor(&self) -> Value {
        let bos = self.bos.filter(|_| self.add_bos).and_then(|id| Some((id, self.tokens.get(id as usize)?)));
        let Some((id, token)) = bos else { return Value::Null };
        let special = |kind: u8| json!({"SpecialToken": {"id": token, "type_id": kind}});
        let text = |name: &str, kind: u8| json!({"Sequence": {"id": name, "type_id": kind}});
        json!({
            "type": "TemplateProcessing",
            "single": [special(0), text("A", 0)],
            "pair": [special(0), text("A", 0), special(1), text("B", 1)],
            "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
        })
    }

    fn error(&self, reason: String) -> Error {
        Error::Tokenizer { origin: self.gguf.path.display().to_string(), reason }
    }
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    value
}

#[cfg(test)]
mod tests;
