//! The word lists of VADER's rules (C.J. Hutto, MIT licence).

/// What a degree word adds to or takes from the word it modifies.
const STEP: f64 = 0.293;

/// Words that turn a sentiment round.
#[rustfmt::skip]
const NEGATIONS: &[&str] = &[
    "ain't", "aint", "aren't", "arent", "can't", "cannot", "cant", "couldn't", "couldnt", "daren't", "darent",
    "despite", "didn't", "didnt", "doesn't", "doesnt", "don't", "dont", "hadn't", "hadnt", "hasn't", "hasnt",
    "haven't", "havent", "isn't", "isnt", "mightn't", "mightnt", "mustn't", "mustnt", "needn't", "neednt",
    "neither", "never", "none", "nope", "nor", "not", "nothing", "nowhere", "oughtn't", "oughtnt", "rarely",
    "seldom", "shan't", "shant", "shouldn't", "shouldnt", "uh-uh", "uhuh", "wasn't", "wasnt", "weren't",
    "werent", "without", "won't", "wont", "wouldn't", "wouldnt",
];

/// Degree words that strengthen.
#[rustfmt::skip]
const BOOSTERS: &[&str] = &[
    "absolutely", "amazingly", "awfully", "completely", "considerable", "considerably", "decidedly", "deeply",
    "effing", "enormous", "enormously", "entirely", "especially", "exceptional", "exceptionally", "extreme",
    "extremely", "fabulously", "flippin", "flipping", "frackin", "fracking", "frickin", "fricking", "friggin",
    "frigging", "fuckin", "fucking", "fuggin", "fugging", "fully", "greatly", "hella", "highly", "hugely",
    "incredible", "incredibly", "intensely", "major", "majorly", "more", "most", "particularly", "purely",
    "quite", "really", "remarkably", "so", "substantially", "thoroughly", "total", "totally", "tremendous",
    "tremendously", "uber", "unbelievably", "unusually", "utter", "utterly", "very",
];

/// Degree words that weaken.
#[rustfmt::skip]
const DAMPENERS: &[&str] = &[
    "almost", "barely", "hardly", "just enough", "kind of", "kind-of", "kinda", "kindof", "less", "little",
    "marginal", "marginally", "occasional", "occasionally", "partly", "scarce", "scarcely", "slight",
    "slightly", "somewhat", "sort of", "sort-of", "sorta", "sortof",
];

/// Phrases whose sentiment is not that of their words.
const IDIOMS: &[(&str, f64)] = &[
    ("the shit", 3.0),
    ("the bomb", 3.0),
    ("bad ass", 1.5),
    ("badass", 1.5),
    ("bus stop", 0.0),
    ("yeah right", -2.0),
    ("kiss of death", -1.5),
    ("to die for", 3.0),
    ("beating heart", 3.5),
];

/// Whether a word (in lower case) negates.
pub(super) fn negates(word: &str) -> bool {
    NEGATIONS.contains(&word) || word.contains("n't")
}

/// The degree of a word or phrase (in lower case), when it is a degree word.
pub(super) fn degree(phrase: &str) -> Option<f64> {
    if BOOSTERS.binary_search(&phrase).is_ok() {
        Some(STEP)
    } else if DAMPENERS.contains(&phrase) {
        Some(-STEP)
    } else {
        None
    }
}

/// The sentiment of an idiom (in lower case).
pub(super) fn idiom(phrase: &str) -> Option<f64> {
    let found = IDIOMS.iter().find(|(idiom, _)| *idiom == phrase);
    found.map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boosters_are_sorted_for_the_search() {
        assert!(BOOSTERS.is_sorted());
        assert!(BOOSTERS.iter().all(|word| degree(word) == Some(STEP)));
    }

    #[test]
    fn every_contraction_with_nt_negates() {
        assert!(negates("mayn't") && negates("not") && !negates("knot"));
    }
}
