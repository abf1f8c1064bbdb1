//! The tokenizer of a GGUF file, as the files of a Hugging Face directory.

mod bpe;
mod pieces;
mod split;

use std::{borrow::Cow, collections::HashSet, path::Path};

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
const UNUSED: i64 = 5;

/// Control tokens that end a turn where the chat template writes them: files of some age do not say which it is.
const ENDS_OF_TURNS: [&str; 6] = ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|eom_id|>", "<EOT>"];

/// What Phi-3 does not strip the space after.
const PHI3_AS_THEY_ARE: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

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
        other => return Err(vocabulary.unread(other)),
    };
    let name = |id: Option<u32>| id.and_then(|id| vocabulary.tokens.get(id as usize));
    let template = gguf.text("tokenizer.chat_template")?;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": vocabulary.add_bos,
        "bos_token": name(vocabulary.bos),
        "eos_token": name(vocabulary.eos),
        "unk_token": name(vocabulary.unknown),
        "pad_token": name(vocabulary.pad),
        "clean_up_tokenization_spaces": false,
        "chat_template": template,
    });
    let mut stops: Vec<u32> = [vocabulary.eos, vocabulary.end_of_turn].into_iter().flatten().collect();
    stops.extend(template.map(|template| vocabulary.ends_of_turns(template)).unwrap_or_default());
    let mut seen = HashSet::new();
    stops.retain(|id| seen.insert(*id));
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
        let named = gguf.text("tokenizer.ggml.pre")?.and_then(split::named);
        let begins = is_sentence_piece || named.is_some_and(|split| split.begins);
        let mut seen = HashSet::new();
        if let Some(twice) = tokens.iter().find(|token| !token.is_empty() && !seen.insert(*token)) {
            return Err(error(format!("the token {twice:?} is there twice")));
        }
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

    /// Tokens by their ids; those without a text get one, as in llama.cpp.
    fn texts(&self) -> impl Iterator<Item = (usize, Cow<'a, str>)> {
        let named = |(id, token): (usize, &'a str)| match token {
            "" => (id, Cow::from(format!("[EMPTY_{id}]"))),
            _ => (id, Cow::from(token)),
        };
        self.tokens.iter().enumerate().map(named)
    }

    /// `vocab` of `tokenizer.json`: every token, the special ones too, so that all keep their ids.
    fn ids(&self) -> Map<String, Value> {
        self.texts().map(|(id, token)| (token.into_owned(), json!(id))).collect()
    }

    /// `added_tokens`: control tokens, which no text spells, and those of the user, which any text does.
    fn added(&self) -> Vec<Value> {
        let is_added = |kind: i64| [UNKNOWN, CONTROL, USER_DEFINED].contains(&kind);
        let strips = self.model == "llama" && self.gguf.architecture().is_ok_and(|of| of == "phi3");
        let entry = |(id, token): (usize, Cow<'_, str>)| {
            let special = self.kind(id) != USER_DEFINED;
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": strips && !PHI3_AS_THEY_ARE.contains(&token.as_ref()),
                // As texts are once their spaces are letters.
                "normalized": !special && self.model == "llama" && token.contains(pieces::SPACE),
                "special": special,
            })
        };
        self.texts().filter(|(id, _)| is_added(self.kind(*id))).map(entry).collect()
    }

    /// How texts are split, by the file's name for it.
    fn split(&self) -> Result<&'static split::Split, Error> {
        let name = self.gguf.text("tokenizer.ggml.pre")?;
        let only = self.gguf.text("general.architecture")?.and_then(split::of_architecture);
        let found = match name {
            None | Some("default") => only.or(name.and_then(split::named)),
            Some(name) => split::named(name),
        };
        let told = || match name {
            Some(name) => format!("tokenizer.ggml.pre is {}, which is not known", shown(name)),
            None => "it has no tokenizer.ggml.pre, the name of how texts are split".to_owned(),
        };
        found.ok_or_else(|| self.error(format!("{} ({} are); {GIVE_ONE}", told(), split::names().join(", "))))
    }

    /// Control tokens that end a turn, by what the chat template writes.
    fn ends_of_turns(&self, template: &str) -> Vec<u32> {
        let ends = |(id, token): &(usize, &str)| {
            self.kind(*id) == CONTROL && ENDS_OF_TURNS.contains(token) && template.contains(token)
        };
        self.tokens.iter().enumerate().filter(ends).map(|(id, _)| id as u32).collect()
    }

    /// The error of a kind of vocabulary that is not read.
    fn unread(&self, model: &str) -> Error {
        let kind = match model {
            "bert" => " (WordPiece)",
            "t5" => " (Unigram)",
            "gemma4" => " (BPE without bytes)",
            _ => "",
        };
        self.error(format!(
            "tokenizer.ggml.model is {}{kind}, which is not read; gpt2 (byte-level BPE) and llama (SentencePiece's BPE) \
             are; {GIVE_ONE}",
            shown(model)
        ))
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

const GIVE_ONE: &str = "give the tokenizer of its Hugging Face directory with --tokenizer";

/// What a message shows of a value from the file.
fn shown(value: &str) -> String {
    value.chars().take(64).collect()
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    value
}

#[cfg(test)]
mod tests;
