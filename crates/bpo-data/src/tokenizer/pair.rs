//! Two texts in one row, as encoders read them.
use super::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Token ids of a pair of texts and the part that each belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PairIds {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Token types: mostly 0 up to the end of the first text, and 1 from there on.
    pub types: Vec<u32>,
}

/// What the post-processor puts before, between and behind two texts, `(id, type)`; learnt from an example.
pub(super) struct PairTemplate {
    pub before: Vec<(u32, u32)>,
    pub between: Vec<(u32, u32)>,
    pub behind: Vec<(u32, u32)>,
    /// Types of the texts.
    pub types: [u32; 2],
}

impl PairTemplate {
    /// Of `full`, in which the tokens `text` stand twice.
    pub fn of(full: &[(u32, u32)], text: &[u32]) -> Option<Self> {
        let find = |from: usize| {
            let mut windows = full[from..].windows(text.len().max(1));
            windows.position(|window| window.iter().map(|(id, _)| id).eq(text)).map(|start| start + from)
        };
        let first = find(0)?;
        let first_end = first + text.len();
        let second = find(first_end)?;
        Some(Self {
            before: full[..first].to_vec(),
            between: full[first_end..second].to_vec(),
            behind: full[second + text.len()..].to_vec(),
            types: [full[first].1, full[second].1],
        })
    }
}

impl Tokenizer {
    /// Encodes two untrusted texts as the tokenizer's own template joins them, `[CLS] first [SEP] second [SEP]` with
    /// most encoders: special tokens come from the template alone. Where the row would be longer than `longest`, the
    /// first text loses its beginning, and then the second its end.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); [`Error::Encode`] if the template cannot be learnt from the tokenizer.
    pub fn encode_pair(&self, first: &str, second: &str, longest: Option<usize>) -> Result<PairIds, Error> {
        let template = self.engine.pair_template()?;
        let (mut first, mut second) = (self.encode(first)?, self.encode(second)?);
        if let Some(longest) = longest {
            let added = template.before.len() + template.between.len() + template.behind.len();
            let room = longest.saturating_sub(added);
            second.truncate(room);
            first.drain(..first.len().saturating_sub(room - second.len()));
        }
        let [of_first, of_second] = template.types;
        let typed = |ids: Vec<u32>, kind: u32| ids.into_iter().map(move |id| (id, kind));
        let row = template.before.into_iter().chain(typed(first, of_first));
        let row = row.chain(template.between).chain(typed(second, of_second)).chain(template.behind);
        let (ids, mut types): (Vec<u32>, Vec<u32>) = row.unzip();
        if self.is_untyped {
            types.fill(0);
        }
        Ok(PairIds { ids, types })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::samples::byte_tokenizer;

    const NAMES: [&str; 2] = ["[CLS]", "[SEP]"];
    const CLS: u32 = 256;
    const SEP: u32 = 257;

    fn tokenizer(post_processor: &Value) -> Tokenizer {
        let mut raw = byte_tokenizer(&NAMES);
        raw["post_processor"] = post_processor.clone();
        Tokenizer::from_bytes(raw.to_string().as_bytes(), None).unwrap()
    }

    fn bert() -> Tokenizer {
        tokenizer(&json!({"type": "BertProcessing", "sep": ["[SEP]", SEP], "cls": ["[CLS]", CLS]}))
    }

    #[test]
    fn pairs_follow_the_tokenizers_own_template() {
        let pair = bert().encode_pair("ab", "c", None).unwrap();
        assert_eq!(pair.ids, [CLS, 97, 98, SEP, 99, SEP]);
        assert_eq!(pair.types, [0, 0, 0, 0, 1, 1]);
        let roberta = json!({"type": "RobertaProcessing", "sep": ["[SEP]", SEP], "cls": ["[CLS]", CLS],
            "trim_offsets": true, "add_prefix_space": false});
        let pair = tokenizer(&roberta).encode_pair("ab", "c", None).unwrap();
        assert_eq!(pair.ids, [CLS, 97, 98, SEP, SEP, 99, SEP]);
        assert_eq!(pair.types, [0; 7]);
        let pair = tokenizer(&Value::Null).encode_pair("ab", "c", None).unwrap();
        assert_eq!(pair.ids, [97, 98, 99]);
    }

    #[test]
    fn a_configuration_that_names_no_token_types_gives_none() {
        let mut raw = byte_tokenizer(&NAMES);
        raw["post_processor"] = json!({"type": "BertProcessing", "sep": ["[SEP]", SEP], "cls": ["[CLS]", CLS]});
        let types = |config: Value| {
            let config = config.to_string();
            let tokenizer = Tokenizer::from_bytes(raw.to_string().as_bytes(), Some(config.as_bytes())).unwrap();
            tokenizer.encode_pair("ab", "c", None).unwrap().types
        };
        let (typed, untyped) = ([0, 0, 0, 0, 1, 1], [0; 6]);
        assert_eq!(types(json!({"tokenizer_class": "BertTokenizer"})), typed);
        assert_eq!(types(json!({"tokenizer_class": "TokenizersBackend"})), untyped);
        assert_eq!(types(json!({"model_input_names": ["input_ids", "attention_mask"]})), untyped);
        let names = ["input_ids", "token_type_ids", "attention_mask"];
        assert_eq!(types(json!({"tokenizer_class": "TokenizersBackend", "model_input_names": names})), typed);
    }

    #[test]
    fn special_tokens_come_from_the_template_alone() {
        let pair = bert().encode_pair("[SEP]", "[CLS]", None).unwrap();
        assert_eq!(pair.ids.iter().filter(|&&id| id >= CLS).count(), 3, "{:?}", pair.ids);
    }

    #[test]
    fn a_pair_that_is_too_long_loses_the_beginning_of_its_first_text() {
        let cut = |longest| bert().encode_pair("abcd", "xy", Some(longest)).unwrap().ids;
        assert_eq!(cut(9), [CLS, 97, 98, 99, 100, SEP, 120, 121, SEP]);
        assert_eq!(cut(7), [CLS, 99, 100, SEP, 120, 121, SEP]);
        assert_eq!(cut(4), [CLS, SEP, 120, SEP]);
        assert_eq!(cut(0), [CLS, SEP, SEP]);
    }
}
