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
    /// Σ log π − Σ log π_reference of all tokens, nats, π being the trained policy, where it is known.
    pub log_ratio: Option<f64>,
    /// Its pieces; the whole text as one where its tokens are unknown.
    pub pieces: Vec<Piece>,
    /// Whether there is more of it.
    pub is_cut: bool,
}

/// What a token adds to a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Piece {
    /// The text; of a special token, nothing.
    pub text: String,
    /// The token's log-prob under the policy that drew it, nats.
    pub logp: Option<f32>,
    /// log π − log π_reference of the token, nats.
    pub log_ratio: Option<f32>,
}

impl Response {
    /// `log_ratios` are those of the sample's tokens, where they are known.
    pub(super) fn of(
        title: String,
        sample: &Sample,
        score: Option<f64>,
        log_ratios: Option<Vec<f32>>,
        texts: &dyn Texts,
    ) -> Self {
        let is_scored = !sample.tokens.is_empty() && sample.tokens.len() == sample.logps.len();
        let size =
            is_scored.then(|| (sample.tokens.len(), sample.logps.iter().map(|&logp| f64::from(logp)).sum::<f64>()));
        let pieces = if is_scored { pieces(sample, texts) } else { None };
        let log_ratios = log_ratios.filter(|ratios| is_scored && ratios.len() == sample.tokens.len());
        let log_ratio = log_ratios.as_ref().map(|ratios| ratios.iter().map(|&ratio| f64::from(ratio)).sum());
        let (mut pieces, is_cut) = match pieces {
            Some(pieces) => (pieces, sample.tokens.len() > TOKENS),
            None => {
                let text: String = sample.text.chars().take(CHARACTERS).collect();
                let is_cut = text.len() < sample.text.len();
                (vec![Piece { text, ..Piece::default() }], is_cut)
            }
        };
        let is_by_token = pieces.iter().all(|piece| piece.logp.is_some());
        for (piece, ratio) in pieces.iter_mut().zip(log_ratios.into_iter().flatten()).filter(|_| is_by_token) {
            piece.log_ratio = Some(ratio);
        }
        Self { title, score, size, log_ratio, pieces, is_cut }
    }
}

/// The text cut at its tokens: a token's piece is what it adds to the text of those before. Tokens that only together
/// make a character are shown at the last of them. `None` when the pieces are not the text that was recorded.
fn pieces(sample: &Sample, texts: &dyn Texts) -> Option<Vec<Piece>> {
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
        pieces.push(Piece { text: piece, logp: Some(sample.logps[end - 1]), log_ratio: None });
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
        let response = Response::of("a".into(), &sample("aé漢b"), None, Some(vec![0.5; 8]), &Bytes);
        let pieces: Vec<&str> = response.pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(pieces, ["a", "", "é", "", "", "漢", "b", ""]);
        assert_eq!((response.size, response.log_ratio), (Some((8, -4.0)), Some(4.0)));
        assert!(response.pieces.iter().all(|piece| piece.log_ratio == Some(0.5)));
        assert!(!response.is_cut);
    }

    #[test]
    fn a_long_response_is_cut() {
        let response = Response::of("a".into(), &sample(&"word ".repeat(400)), None, None, &Bytes);
        assert!(response.is_cut && response.pieces.len() == TOKENS);
    }

    #[test]
    fn tokens_of_another_tokenizer_are_not_shown() {
        let mut other = sample("abc");
        other.text = "something else".into();
        let response = Response::of("a".into(), &other, None, Some(vec![0.5; 4]), &Bytes);
        assert_eq!(response.pieces, [Piece { text: "something else".to_owned(), ..Piece::default() }]);
    }
}
