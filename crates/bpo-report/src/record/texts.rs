//! Completions in pieces, one per token, where the tokenizer is at hand.
use super::Sample;

/// Tokens of a completion that are shown.
const TOKENS: usize = 400;
/// Characters of a text that is shown without its tokens.
const CHARACTERS: usize = 2_000;

/// Knows the texts behind a journal's numbers.
pub trait Texts {
    /// A prompt, by its id.
    fn prompt(&self, id: usize) -> Option<String>;
    /// Tokens as text; special ones are nothing.
    fn decode(&self, tokens: &[u32]) -> Option<String>;
}

/// Two responses to a prompt, side by side.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Where it comes from.
    pub title: String,
    /// The prompt, where it is known.
    pub prompt: Option<String>,
    /// The responses; of a judged pair the preferred one first.
    pub responses: [Response; 2],
    /// What was said about them.
    pub verdict: Option<String>,
}

/// A response as it is shown.
#[derive(Debug, Clone)]
pub struct Response {
    /// Above it.
    pub title: String,
    /// The annotator's score.
    pub score: Option<f64>,
    /// Tokens, and the log-prob of all of them under the policy that drew them, nats.
    pub size: Option<(usize, f64)>,
    /// Pieces with their log-probs, nats; the whole text as one piece without where its tokens are unknown.
    pub pieces: Vec<(String, Option<f32>)>,
    /// Whether there is more of it.
    pub is_cut: bool,
}

impl Response {
    pub(super) fn of(title: String, sample: &Sample, score: Option<f64>, texts: &dyn Texts) -> Self {
        let is_scored = !sample.tokens.is_empty() && sample.tokens.len() == sample.logps.len();
        let size =
            is_scored.then(|| (sample.tokens.len(), sample.logps.iter().map(|&logp| f64::from(logp)).sum::<f64>()));
        let pieces = if is_scored { pieces(sample, texts) } else { None };
        let (pieces, is_cut) = match pieces {
            Some(pieces) => (pieces, sample.tokens.len() > TOKENS),
            None => {
                let text: String = sample.text.chars().take(CHARACTERS).collect();
                let is_cut = text.len() < sample.text.len();
                (vec![(text, None)], is_cut)
            }
        };
        Self { title, score, size, pieces, is_cut }
    }
}

/// The text cut at its tokens: a token's piece is what it adds to the text of those before. Tokens that only together
/// make a character are shown at the last of them. `None` when the pieces are not the text that was recorded.
fn pieces(sample: &Sample, texts: &dyn Texts) -> Option<Vec<(String, Option<f32>)>> {
    let shown = sample.tokens.len().min(TOKENS);
    let (mut pieces, mut whole) = (Vec::with_capacity(shown), String::new());
    // Decoders look at neighbours: the last piece that was settled is decoded again in front of the next one.
    let (mut from, mut settled) = (0, 0);
    for end in 1..=shown {
        let before = texts.decode(&sample.tokens[from..settled])?;
        let now = texts.decode(&sample.tokens[from..end])?;
        let is_whole = !now.ends_with('\u{fffd}') || end == shown;
        let piece = if is_whole { now.strip_prefix(&before)?.to_owned() } else { String::new() };
        whole.push_str(&piece);
        if is_whole {
            (from, settled) = (settled, end);
        }
        pieces.push((piece, Some(sample.logps[end - 1])));
    }
    let is_text = if shown < sample.tokens.len() { sample.text.starts_with(&whole) } else { sample.text == whole };
    is_text.then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of UTF-8 as tokens; 0 ends a text.
    struct Bytes;

    impl Texts for Bytes {
        fn prompt(&self, _: usize) -> Option<String> {
            None
        }

        fn decode(&self, tokens: &[u32]) -> Option<String> {
            let bytes: Vec<u8> = tokens.iter().filter(|token| **token > 0).map(|token| *token as u8).collect();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
    }

    fn sample(text: &str) -> Sample {
        let tokens: Vec<u32> = text.bytes().map(u32::from).chain([0]).collect();
        Sample { logps: vec![-0.5; tokens.len()], tokens, text: text.to_owned() }
    }

    #[test]
    fn pieces_are_the_text_and_a_character_of_several_tokens_is_shown_once() {
        let response = Response::of("a".into(), &sample("aé漢b"), None, &Bytes);
        let pieces: Vec<&str> = response.pieces.iter().map(|(piece, _)| piece.as_str()).collect();
        assert_eq!(pieces, ["a", "", "é", "", "", "漢", "b", ""]);
        assert_eq!(response.size, Some((8, -4.0)));
        assert!(!response.is_cut);
    }

    #[test]
    fn a_long_response_is_cut() {
        let response = Response::of("a".into(), &sample(&"word ".repeat(400)), None, &Bytes);
        assert!(response.is_cut && response.pieces.len() == TOKENS);
    }

    #[test]
    fn tokens_of_another_tokenizer_are_not_shown() {
        let mut other = sample("abc");
        other.text = "something else".into();
        let response = Response::of("a".into(), &other, None, &Bytes);
        assert_eq!(response.pieces, [("something else".to_owned(), None)]);
    }
}
