//! The word that was probably meant, where one is known that is nearly what was typed.

/// Of a message that quotes an unknown word and lists the known ones, the one that was probably meant.
pub fn meant(message: &str) -> Option<&str> {
    let refuses = ["unknown ", "known are ", "is not known", "no such device"];
    if message.contains("did you mean") || !refuses.iter().any(|words| message.contains(words)) {
        return None;
    }
    let lists = ["expected ", "known: ", "known are "];
    let list = lists.iter().filter_map(|word| Some((message.find(word)?, word.len()))).min()?;
    let (before, after) = (&message[..list.0], &message[list.0 + list.1..]);
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let known: Vec<&str> = after.split(|c| !is_part(c)).filter(|word| !word.is_empty()).collect();
    nearest(typed(before)?, &known).filter(|word| !word.is_empty())
}

/// The last word in quotes, or that of a flag.
fn typed(before: &str) -> Option<&str> {
    let quoted = |quote: char| {
        let end = before.rfind(quote)?;
        let start = before[..end].rfind(quote)?;
        Some((start, &before[start + quote.len_utf8()..end]))
    };
    let last = [quoted('`'), quoted('"')].into_iter().flatten().max_by_key(|(start, _)| *start);
    let flag = || before.strip_prefix("--device ")?.split(':').next();
    last.map(|(_, word)| word).or_else(flag)
}

/// The known word that was probably meant.
pub fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |candidate: &&str| edit_distance(key, candidate);
    let best = known.iter().min_by_key(|candidate| distance(candidate))?;
    (distance(best) <= key.chars().count().max(best.chars().count()) / 3).then_some(*best)
}

/// Characters inserted, deleted or replaced (Levenshtein 1966).
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_lists_words_gets_the_one_that_was_meant() {
        for (message, word) in [
            ("`annotator`: unknown variant `lexikon`, expected one of `lexicon`, `length`, `regex`", Some("lexicon")),
            ("`x`: unknown variant `fist`, expected `first` or `second`", Some("first")),
            ("unknown loss_type \"sigmod\"; known: sigmoid, hinge, or \"expr: …\"", Some("sigmoid")),
            ("reference = \"behavior\": known are \"behaviour\", \"initial\" and \"every:N\"", Some("behaviour")),
            ("--device flx: no such device; known: flex, tch, cuda[:N] (this build has: flex)", Some("flex")),
            ("merge: \"men\" is not known; known: mean, concat, svd:R", Some("mean")),
            ("unknown annotator `lexicn`: expected `lexicon`, `length`, the path of a lexicon", Some("lexicon")),
            ("unknown annotator `judge`: expected `lexicon`, `length`, the path of a lexicon", None),
            ("unknown key `bet`; did you mean `beta`?", None),
            ("a.jsonl:3: expected a value", None),
            ("/data/unknown/x: No such file", None),
        ] {
            assert_eq!(meant(message), word, "{message}");
        }
    }

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, d) in [("", "", 0), ("beta", "beta", 0), ("bta", "beta", 1), ("kitten", "sitting", 3), ("", "ab", 2)]
        {
            assert_eq!(edit_distance(a, b), d, "{a} {b}");
            assert_eq!(edit_distance(b, a), d, "{b} {a}");
        }
    }
}
