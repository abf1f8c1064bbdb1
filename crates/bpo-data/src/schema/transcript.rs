//! Anthropic HH transcripts: `"\n\nHuman: …\n\nAssistant: …"`.

use crate::Message;

const SPEAKERS: [(&str, &str); 2] = [("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant")];

/// Splits a transcript into turns; `None` if the text is not one.
///
/// White space around a turn belongs to the format and is dropped. The two line breaks before the
/// first speaker may be missing.
pub(super) fn turns(text: &str) -> Option<Vec<Message>> {
    let padded;
    let mut rest = text;
    if SPEAKERS.iter().any(|(mark, _)| text.starts_with(mark.trim_start())) {
        padded = format!("\n\n{text}");
        rest = &padded;
    }
    let (before, mut speaker, mut after) = next_speaker(rest)?;
    if !before.trim().is_empty() {
        return None;
    }
    let mut turns = Vec::new();
    while let Some((said, next, behind)) = next_speaker(after) {
        turns.push(Message::new(speaker, said.trim()));
        (speaker, after) = (next, behind);
    }
    turns.push(Message::new(speaker, after.trim()));
    Some(turns)
}

/// The first speaker mark: what is before it, whose it is, what is behind it.
fn next_speaker(text: &str) -> Option<(&str, &'static str, &str)> {
    SPEAKERS
        .iter()
        .filter_map(|&(mark, role)| text.split_once(mark).map(|(head, tail)| (head, role, tail)))
        .min_by_key(|(head, ..)| head.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Vec<(String, String)>> {
        turns(text).map(|turns| turns.into_iter().map(|m| (m.role, m.content)).collect())
    }

    fn expected(list: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(list.iter().map(|&(r, c)| (r.to_owned(), c.to_owned())).collect())
    }

    #[test]
    fn turns_are_split_and_trimmed() {
        let text = "\n\nHuman: a\n\nb\n\nAssistant: c \n\nHuman:\n\nAssistant:";
        let turns = [("user", "a\n\nb"), ("assistant", "c"), ("user", ""), ("assistant", "")];
        assert_eq!(parsed(text), expected(&turns));
        assert_eq!(parsed(text.trim_start()), expected(&turns));
    }

    #[test]
    fn other_text_is_not_a_transcript() {
        for text in ["", "hello", "hello\n\nHuman: a", "Human a"] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_keeps_every_speaker(text in "(\n\nHuman:|\n\nAssistant:|[a\n :é]){0,12}") {
            if let Some(turns) = turns(&text) {
                proptest::prop_assert!(!turns.is_empty());
            }
        }
    }
}
