//! The byte-level BPE tokenizer, trained on the corpus.

use serde_json::json;
use tokenizers::{
    AddedToken, Result, Tokenizer,
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainerBuilder},
    },
    pre_tokenizers::byte_level::ByteLevel,
    processors::template::TemplateProcessing,
    utils::parallelism::set_parallelism,
};

/// Entries in all: three control tokens, 256 bytes, and the merges.
pub const VOCABULARY: usize = 1024;
/// The model's context.
pub const CONTEXT: usize = 256;

const PAD: &str = "<|pad|>";
const BOS: &str = "<|bos|>";
const EOS: &str = "<|eos|>";

/// Trains the tokenizer on one thread: the same texts give the same tokenizer.
pub fn train(texts: &[String]) -> Result<Tokenizer> {
    set_parallelism(false);
    let mut tokenizer = Tokenizer::new(BPE::default());
    let bytes = ByteLevel::new(false, true, true);
    tokenizer.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes));
    let trainer = BpeTrainerBuilder::new()
        .vocab_size(VOCABULARY)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens([PAD, BOS, EOS].map(|token| AddedToken::from(token, true)).to_vec())
        .build();
    tokenizer.train(&mut TrainerWrapper::from(trainer), texts.iter())?;
    let bos = tokenizer.token_to_id(BOS).ok_or("the tokenizer lacks its BOS")?;
    let template = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))?
        .try_pair(format!("{BOS} $A $B:1"))?
        .special_tokens(vec![(BOS, bos)])
        .build()?;
    tokenizer.with_post_processor(Some(template));
    Ok(tokenizer)
}

/// `tokenizer_config.json` as `transformers` writes it.
pub fn config() -> serde_json::Value {
    let control = |content: &str| {
        json!({
            "content": content, "lstrip": false, "normalized": false,
            "rstrip": false, "single_word": false, "special": true,
        })
    };
    json!({
        "added_tokens_decoder": { "0": control(PAD), "1": control(BOS), "2": control(EOS) },
        "bos_token": BOS,
        "clean_up_tokenization_spaces": false,
        "eos_token": EOS,
        "model_max_length": CONTEXT,
        "pad_token": PAD,
        "tokenizer_class": "PreTrainedTokenizerFast",
    })
}
