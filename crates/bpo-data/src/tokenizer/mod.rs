//! Text ↔ token ids, with chat templates; untrusted text never becomes a control token.

mod bounds;
mod chat;
mod engine;
mod pair;
mod settings;
mod specials;
mod template;

use std::path::Path;

use engine::Engine;
pub use pair::PairIds;
use settings::Settings;
use specials::Specials;
use template::Template;

use crate::{Error, Message, Prompt};

/// A Hugging Face tokenizer with its special tokens and its chat template.
///
/// Whatever `tokenizer.json` says, nothing is truncated, padded or dropped out at random.
pub struct Tokenizer {
    engine: Engine,
    specials: Specials,
    template: Option<Template>,
    /// Texts of BOS, EOS and padding, for templates.
    names: [Option<String>; 3],
    /// What the tokenizer puts before a text: BOS, or nothing.
    prefix: Vec<u32>,
    bos_id: Option<u32>,
    pad_id: Option<u32>,
    /// Stop ids; the first is the one that ends a completion.
    eos_ids: Vec<u32>,
    /// Whether models are not told which of two texts a token belongs to.
    is_untyped: bool,
}

impl Tokenizer {
    /// Loads `tokenizer.json` of a model directory, with what its siblings say about special
    /// tokens and chat: `tokenizer_config.json`, `special_tokens_map.json`,
    /// `chat_template.jinja`, `generation_config.json` and `config.json`, all optional.
    ///
    /// # Errors
    /// Names the file that cannot be read or used.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        Self::from_file(&dir.join("tokenizer.json"))
    }

    /// Loads a `tokenizer.json`; files beside it are read as in [`from_dir`](Self::from_dir).
    ///
    /// # Errors
    /// Names the file that cannot be read or used.
    pub fn from_file(tokenizer_json: &Path) -> Result<Self, Error> {
        let bytes = settings::required(tokenizer_json)?;
        let dir = tokenizer_json.parent().unwrap_or(Path::new("."));
        let settings = Settings::from_dir(dir)?;
        Self::build(&tokenizer_json.display().to_string(), &bytes, settings)
    }

    /// Loads a tokenizer from bytes: a `tokenizer.json` and, where there is one, a
    /// `tokenizer_config.json`.
    ///
    /// # Errors
    /// Says which of the two cannot be used.
    pub fn from_bytes(tokenizer_json: &[u8], tokenizer_config: Option<&[u8]>) -> Result<Self, Error> {
        let settings = Settings::from_bytes(tokenizer_config)?;
        Self::build("tokenizer.json", tokenizer_json, settings)
    }

    /// Loads a tokenizer from what a directory would hold of it.
    pub(crate) fn from_files(
        origin: &str,
        tokenizer: &[u8],
        tokenizer_config: &[u8],
        generation_config: &[u8],
    ) -> Result<Self, Error> {
        let mut settings = Settings::from_bytes(Some(tokenizer_config))?;
        settings.read_generation_config(generation_config)?;
        Self::build(origin, tokenizer, settings)
    }

    fn build(origin: &str, bytes: &[u8], settings: Settings) -> Result<Self, Error> {
        let engine = Engine::load(origin, bytes, &settings.special_names())?;
        let id = |name: &Option<String>| name.as_deref().and_then(|name| engine.id_of(name));
        let bos_id = id(&settings.bos.text).or(settings.bos.id);
        let pad_id = id(&settings.pad.text).or(settings.pad.id);
        let eos_ids = settings.stop_ids(id(&settings.eos));
        let prefix = settings.prefix(engine.prefix()?, bos_id);
        let is_untyped = settings.is_untyped;
        let names = [settings.bos.text, settings.eos, settings.pad.text];
        let template = settings.template.as_ref().map(|source| Template::new(source, &names));
        let specials = Specials::new(engine.special_tokens(), engine.unknown_id(), &eos_ids);
        Ok(Self { engine, specials, template, names, prefix, bos_id, pad_id, eos_ids, is_untyped })
    }

    /// The largest id plus one, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.engine.vocab_size()
    }

    /// The id that begins a text, if the tokenizer names one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos_id
    }

    /// The id that fills up a batch, if the tokenizer names one.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad_id
    }

    /// Every id that ends a response; the first is the one completions are trained to end with.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// What the tokenizer itself puts in front of a text: BOS, or nothing.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// Replaces the chat template, or gives one to a tokenizer without. A broken one is an error when it is used.
    pub fn set_chat_template(&mut self, source: &str) {
        self.template = Some(Template::new(source, &self.names));
    }

    /// Encodes untrusted text: no special token ever comes out, and nothing is added.
    ///
    /// # Errors
    /// [`Error::Encode`] if the tokenizers library fails; [`Error::ControlToken`] for a character
    /// that the vocabulary only knows as a special token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let ids = self.engine.encode_plain(text)?;
        if self.specials.control_in(&ids).is_none() {
            return Ok(ids);
        }
        // The model itself knows the special token's text (as in Unigram and WordLevel): encode
        // it in pieces. Rare, and only for text that spells a special token.
        self.encode_pieces(&self.specials.broken(text))
    }

    fn encode_pieces(&self, pieces: &[&str]) -> Result<Vec<u32>, Error> {
        let mut all = Vec::new();
        for piece in pieces {
            let ids = self.engine.encode_plain(piece)?;
            match self.specials.control_in(&ids) {
                None => all.extend(ids),
                Some(id) if piece.chars().nth(1).is_none() => return Err(Error::ControlToken { id }),
                Some(_) => {
                    let chars: Vec<&str> = piece.split_inclusive(|_| true).collect();
                    all.extend(self.encode_pieces(&chars)?);
                }
            }
        }
        Ok(all)
    }

    /// Encodes trusted text: special tokens in it are recognised; nothing is added.
    ///
    /// # Errors
    /// [`Error::Encode`] if the tokenizers library fails.
    pub fn encode_with_specials(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.engine.encode_trusted(text)
    }

    /// Decodes ids, leaving special tokens out.
    ///
    /// # Errors
    /// [`Error::Decode`] if the tokenizers library fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.engine.decode(ids, true)
    }

    /// Decodes ids, special tokens included.
    ///
    /// # Errors
    /// [`Error::Decode`] if the tokenizers library fails.
    pub fn decode_raw(&self, ids: &[u32]) -> Result<String, Error> {
        self.engine.decode(ids, false)
    }

    /// Whether conversations can be rendered.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Renders a conversation as `transformers` does. The text is for people: use
    /// [`encode_prompt`](Self::encode_prompt) for ids, which keeps control tokens out of contents.
    ///
    /// # Errors
    /// [`Error::NoChatTemplate`], or [`Error::ChatTemplate`] if the template is invalid, raises an
    /// exception, or goes over its limits.
    pub fn render_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        self.template.as_ref().ok_or(Error::NoChatTemplate)?.render(messages, add_generation_prompt)
    }

    /// Encodes a prompt as the model expects it.
    ///
    /// Text: the prefix that the tokenizer itself adds (BOS, or nothing), then the text. A
    /// conversation: the chat template with the generation prompt, tokenised exactly as
    /// `apply_chat_template(tokenize=True)` does, except that special tokens spelled in contents
    /// stay text.
    ///
    /// # Errors
    /// As [`encode`](Self::encode) and [`render_chat`](Self::render_chat).
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Error> {
        match prompt {
            Prompt::Text(text) => {
                let mut ids = self.prefix.clone();
                ids.extend(self.encode(text)?);
                Ok(ids)
            }
            Prompt::Messages(messages) => self.encode_chat(messages, true),
        }
    }

    /// Encodes a completion, which is untrusted text, and ends it with the first of
    /// [`eos_ids`](Self::eos_ids) if `append_eos`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); [`Error::Encode`] if there is no EOS to append.
    pub fn encode_completion(&self, text: &str, append_eos: bool) -> Result<Vec<u32>, Error> {
        let mut ids = self.encode(text)?;
        if append_eos {
            let eos = self.eos_ids.first().copied();
            ids.push(eos.ok_or_else(|| Error::Encode("the tokenizer names no EOS".to_owned()))?);
        }
        Ok(ids)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("bos_id", &self.bos_id)
            .field("eos_ids", &self.eos_ids)
            .field("pad_id", &self.pad_id)
            .field("has_chat_template", &self.has_chat_template())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
