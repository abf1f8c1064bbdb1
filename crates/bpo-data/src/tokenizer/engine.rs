//! The tokenizers crate behind a wall: its panics become errors.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::models::ModelWrapper;
use tokenizers::{AddedToken, Model, Tokenizer};

use super::{bounds, pair::PairTemplate};
use crate::Error;

/// The text that teaches what the post-processor adds.
const EXAMPLE: &str = "a";

/// One tokenizer, twice: blind to special tokens and aware of them.
pub(super) struct Engine {
    plain: Tokenizer,
    trusted: Tokenizer,
    vocab_size: usize,
    unknown_id: Option<u32>,
}

impl Engine {
    /// Loads a `tokenizer.json`; `special_names` are special even where it does not say so.
    pub(super) fn load(origin: &str, bytes: &[u8], special_names: &[&str]) -> Result<Self, Error> {
        bounds::check(bytes)
            .and_then(|()| guarded(|| Self::try_load(bytes, special_names)))
            .map_err(|reason| Error::Tokenizer { origin: origin.to_owned(), reason })
    }

    fn try_load(bytes: &[u8], special_names: &[&str]) -> tokenizers::Result<Self> {
        let mut trusted = Tokenizer::from_bytes(bytes)?;
        trusted.with_truncation(None)?.with_padding(None);
        stop_dropout(&mut trusted);
        mark_special(&mut trusted, special_names);
        let mut plain = trusted.clone();
        plain.set_encode_special_tokens(true);
        trusted.set_encode_special_tokens(false);
        let vocab_size = vocab_size(&trusted);
        let unknown_id = unknown_id(&trusted);
        Ok(Self { plain, trusted, vocab_size, unknown_id })
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id the model gives to what it does not know.
    pub(super) fn unknown_id(&self) -> Option<u32> {
        self.unknown_id
    }

    pub(super) fn id_of(&self, token: &str) -> Option<u32> {
        self.trusted.token_to_id(token)
    }

    /// Every special token with its id.
    pub(super) fn special_tokens(&self) -> Vec<(u32, AddedToken)> {
        let vocabulary = self.trusted.get_added_vocabulary();
        let tokens = vocabulary.get_added_tokens_decoder().iter();
        tokens
            .filter(|(_, token)| vocabulary.is_special_token(&token.content))
            .map(|(id, token)| (*id, token.clone()))
            .collect()
    }

    /// What the post-processor puts before a text; learnt from an example.
    pub(super) fn prefix(&self) -> Result<Vec<u32>, Error> {
        let Ok(bare) = self.encode_trusted(EXAMPLE) else {
            return Ok(Vec::new()); // a vocabulary without this letter teaches nothing
        };
        let full = encode(&self.trusted, EXAMPLE, true)?;
        let start = full.windows(bare.len().max(1)).position(|window| window == bare);
        Ok(full.into_iter().take(start.unwrap_or(0)).collect())
    }

    /// What the post-processor makes of two texts.
    pub(super) fn pair_template(&self) -> Result<PairTemplate, Error> {
        let bare = self.encode_trusted(EXAMPLE)?;
        let full = guarded(|| self.trusted.encode_fast((EXAMPLE, EXAMPLE), true)).map_err(Error::Encode)?;
        let full: Vec<(u32, u32)> = full.get_ids().iter().copied().zip(full.get_type_ids().iter().copied()).collect();
        let template = PairTemplate::of(&full, &bare).filter(|_| !bare.is_empty());
        template.ok_or_else(|| Error::Encode("the tokenizer does not join two texts".to_owned()))
    }

    pub(super) fn encode_plain(&self, text: &str) -> Result<Vec<u32>, Error> {
        encode(&self.plain, text, false)
    }

    pub(super) fn encode_trusted(&self, text: &str) -> Result<Vec<u32>, Error> {
        encode(&self.trusted, text, false)
    }

    pub(super) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        guarded(|| self.trusted.decode(ids, skip_special)).map_err(Error::Decode)
    }
}

fn encode(tokenizer: &Tokenizer, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
    guarded(|| tokenizer.encode_fast(text, add_special))
        .map(|encoding| encoding.get_ids().to_vec())
        .map_err(Error::Encode)
}

/// Runs `work` of the tokenizers crate, which is known to panic on crafted files.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizers library panicked on this file or text".to_owned()),
    }
}

/// Makes tokens special that the vocabulary has and `tokenizer.json` does not call special.
fn mark_special(tokenizer: &mut Tokenizer, names: &[&str]) {
    let added = tokenizer.get_added_tokens_decoder();
    let mut missed = Vec::new();
    for name in names.iter().filter(|name| tokenizer.token_to_id(name).is_some()) {
        match added.values().find(|token| token.content == **name) {
            Some(token) if token.special => {}
            Some(token) => missed.push(token.clone().special(true)),
            None => missed.push(AddedToken::from(*name, true)),
        }
    }
    tokenizer.add_special_tokens(&missed);
}

/// BPE dropout makes ids random; it is for training tokenizers.
fn stop_dropout(tokenizer: &mut Tokenizer) {
    if let ModelWrapper::BPE(bpe) = tokenizer.get_model()
        && bpe.dropout.is_some()
    {
        let mut bpe = bpe.clone();
        bpe.dropout = None;
        tokenizer.with_model(bpe);
    }
}

fn vocab_size(tokenizer: &Tokenizer) -> usize {
    tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
}

fn unknown_id(tokenizer: &Tokenizer) -> Option<u32> {
    let model = tokenizer.get_model();
    match model {
        ModelWrapper::BPE(bpe) => bpe.unk_token.as_deref().and_then(|token| model.token_to_id(token)),
        ModelWrapper::WordPiece(word_piece) => model.token_to_id(&word_piece.unk_token),
        ModelWrapper::WordLevel(word_level) => model.token_to_id(&word_level.unk_token),
        ModelWrapper::Unigram(_) => None,
    }
}
