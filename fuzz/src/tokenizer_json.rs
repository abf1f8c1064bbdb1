//! Tokenizers: whatever loads encodes the same each time, within its vocabulary, and without control tokens.
use bpo_data::{Prompt, Tokenizer};

const TEXTS: [&str; 5] =
    ["", "hello world", "<s> </s> <unk>\n", "é\u{301} \u{1f600}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"];
/// Ids an encoding may have for each byte of a text; a real one has at most one, and a few more for what it adds.
const LONGEST: usize = 4096;

/// A `tokenizer.json`.
pub fn tokenizer_json(data: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_bytes(data, None) else { return };
    for text in TEXTS {
        let first = tokenizer.encode(text).map_err(|error| error.to_string());
        assert_eq!(first, tokenizer.encode(text).map_err(|error| error.to_string()), "{text:?}");
        let Ok(ids) = first else { continue };
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()), "{text:?}: {ids:?}");
        assert!(ids.len() <= LONGEST, "{text:?}: {} ids", ids.len());
        let _ = tokenizer.decode(&ids);
        if let Ok(prompt) = tokenizer.encode_prompt(&Prompt::Text(text.to_owned())) {
            assert!(prompt.ends_with(&ids));
        }
    }
}
