//! The special tokens of a tokenizer, as text.

use std::collections::BTreeSet;

use tokenizers::AddedToken;

/// Special tokens, searchable in text and in ids.
pub(super) struct Specials {
    /// Longest first.
    tokens: Vec<Special>,
    first_chars: BTreeSet<char>,
    /// Ids that untrusted text must not produce.
    control: BTreeSet<u32>,
}

/// One special token.
pub(super) struct Special {
    pub(super) text: String,
    pub(super) id: u32,
    /// Whether it swallows white space before it.
    pub(super) lstrip: bool,
    /// Whether it swallows white space behind it.
    pub(super) rstrip: bool,
}

impl Specials {
    /// `unknown` is what the model gives for unknown characters: it controls nothing, unless it
    /// also stops a response.
    pub(super) fn new(tokens: Vec<(u32, AddedToken)>, unknown: Option<u32>, stops: &[u32]) -> Self {
        let mut tokens: Vec<Special> = tokens.into_iter().map(Special::new).collect();
        tokens.retain(|token| !token.text.is_empty());
        tokens.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then(a.id.cmp(&b.id)));
        let first_chars = tokens.iter().filter_map(|token| token.text.chars().next()).collect();
        let ids = tokens.iter().map(|token| token.id);
        // A stop id that is no special token ("\n") is ordinary text.
        let control = ids.filter(|id| Some(*id) != unknown || stops.contains(id)).collect();
        Self { tokens, first_chars, control }
    }

    /// The first id in `ids` that controls something.
    pub(super) fn control_in(&self, ids: &[u32]) -> Option<u32> {
        ids.iter().copied().find(|id| self.control.contains(id))
    }

    /// Whether some special token starts with `c`.
    pub(super) fn may_start_with(&self, c: char) -> bool {
        self.first_chars.contains(&c)
    }

    /// The leftmost, longest special token in `text`: where it starts, and which it is.
    pub(super) fn find(&self, text: &str) -> Option<(usize, &Special)> {
        let starts = text.char_indices().filter(|&(_, c)| self.may_start_with(c));
        starts.into_iter().find_map(|(start, _)| {
            let rest = text.get(start..)?;
            Some((start, self.tokens.iter().find(|token| rest.starts_with(&token.text))?))
        })
    }

    /// How many special tokens `text` spells.
    pub(super) fn count(&self, text: &str) -> usize {
        self.split(text).filter(|(_, token)| token.is_some()).count()
    }

    /// Cuts `text` into what is before each special token, and the token; `None` for the rest.
    pub(super) fn split<'s, 't>(&'s self, text: &'t str) -> impl Iterator<Item = (&'t str, Option<&'s Special>)> {
        let mut rest = Some(text);
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let Some((start, token)) = self.find(text) else {
                return Some((text, None));
            };
            rest = text.get(start + token.text.len()..);
            Some((text.get(..start)?, Some(token)))
        })
    }

    /// Cuts `text` behind the first character of every special token it spells.
    pub(super) fn broken<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut searched = 0;
        while let Some((start, _)) = rest.get(searched..).and_then(|tail| self.find(tail)) {
            let start = searched + start;
            let cut = start + rest[start..].chars().next().map_or(1, char::len_utf8);
            let (head, tail) = rest.split_at(cut);
            pieces.push(head);
            (rest, searched) = (tail, 0);
        }
        pieces.push(rest);
        pieces
    }
}

impl Special {
    fn new((id, token): (u32, AddedToken)) -> Self {
        Self { text: token.content, id, lstrip: token.lstrip, rstrip: token.rstrip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials(texts: &[&str]) -> Specials {
        let tokens = texts.iter().map(|text| AddedToken::from(*text, true));
        Specials::new((0..).zip(tokens).collect(), None, &[])
    }

    #[test]
    fn the_leftmost_longest_token_is_found() {
        let specials = specials(&["<s>", "<s>x", "é|"]);
        assert_eq!(specials.find("a<s>xé|").map(|(at, s)| (at, s.id)), Some((1, 1)));
        assert_eq!(specials.find("<<s").map(|(at, s)| (at, s.id)), None);
        assert_eq!(specials.count("<s>é|é|<s>x"), 4);
    }

    #[test]
    fn split_covers_the_text() {
        let specials = specials(&["<s>"]);
        let parts: Vec<_> = specials.split("a<s><s>b").map(|(text, s)| (text, s.is_some())).collect();
        assert_eq!(parts, [("a", true), ("", true), ("b", false)]);
    }

    proptest::proptest! {
        #[test]
        fn broken_pieces_join_to_the_text_and_spell_nothing(text in "(<s>|<|>|s|é\\||é|x){0,12}") {
            let specials = specials(&["<s>", "<s>x", "é|"]);
            let pieces = specials.broken(&text);
            proptest::prop_assert_eq!(pieces.concat(), text.as_str());
            proptest::prop_assert!(pieces.iter().all(|piece| specials.count(piece) == 0));
        }
    }
}
