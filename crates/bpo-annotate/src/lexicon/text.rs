//! What the rules look at: words, capitals, punctuation.

/// One word of a text, stripped of the punctuation around it.
pub(super) struct Word {
    /// In lower case, as it is looked up.
    pub lower: String,
    /// Written in capitals.
    pub upper: bool,
}

/// The words of a text.
pub(super) fn words(text: &str) -> Vec<Word> {
    text.split(is_space)
        .filter(|token| !token.is_empty())
        .map(stripped)
        .map(|token| Word { lower: token.to_lowercase(), upper: is_upper(token) })
        .collect()
}

/// White space as Python's `str.split` sees it: with the four separators of ASCII.
fn is_space(symbol: char) -> bool {
    symbol.is_whitespace() || ('\x1c'..='\x1f').contains(&symbol)
}

/// The token without the punctuation around it. What would shrink to two characters or
/// fewer is probably an emoticon and stays whole.
fn stripped(token: &str) -> &str {
    let bare = token.trim_matches(|symbol: char| symbol.is_ascii_punctuation());
    match bare.chars().count() {
        0..=2 => token,
        _ => bare,
    }
}

fn is_upper(token: &str) -> bool {
    token.chars().any(char::is_uppercase) && !token.chars().any(char::is_lowercase)
}

/// Whether some, but not all, words are written in capitals: only then do capitals emphasise.
pub(super) fn capitals_differ(words: &[Word]) -> bool {
    let upper = words.iter().filter(|word| word.upper).count();
    0 < upper && upper < words.len()
}

/// What exclamation marks (up to four) and question marks (from two) add to a sentiment.
pub(super) fn punctuation(text: &str) -> f64 {
    let count = |mark| text.chars().filter(|symbol| *symbol == mark).count();
    let exclamations = count('!').min(4) as f64 * 0.292;
    let questions = match count('?') {
        0 | 1 => 0.0,
        few @ 2..=3 => few as f64 * 0.18,
        _ => 0.96,
    };
    exclamations + questions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lower(text: &str) -> Vec<String> {
        words(text).into_iter().map(|word| word.lower).collect()
    }

    #[test]
    fn punctuation_is_stripped_and_emoticons_are_kept() {
        assert_eq!(
            lower("\"Great,\"\tthey SAID... :) :-( (ok) (fine)"),
            ["great", "they", "said", ":)", ":-(", "(ok)", "fine"]
        );
        assert!(lower(" \n ").is_empty());
    }

    #[test]
    fn capitals_emphasise_only_beside_other_words() {
        assert!(capitals_differ(&words("really GREAT day")));
        assert!(!capitals_differ(&words("REALLY GREAT")));
        assert!(!capitals_differ(&words("really great")));
        assert!(!capitals_differ(&[]));
    }

    #[test]
    fn marks_are_counted_up_to_a_limit() {
        assert_eq!(punctuation("a!!!!!!"), 4.0 * 0.292);
        assert_eq!(punctuation("a?"), 0.0);
        assert_eq!(punctuation("a??"), 0.36);
        assert_eq!(punctuation("a????"), 0.96);
    }
}
