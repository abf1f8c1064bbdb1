//! VADER's rules, in the order in which the reference implementation applies them.

use std::collections::HashMap;

use super::text::{self, Word};
use super::words::{degree, idiom, negates};

/// What a negation before a word does to its valence.
const NEGATION: f64 = -0.74;
/// What capitals add to a word's valence.
const CAPITALS: f64 = 0.733;
/// "never so", "never this".
const NEVER_SO: f64 = 1.25;
/// How much of a degree word counts at a distance of one, two and three words.
const DISTANCE: [f64; 3] = [1.0, 0.95, 0.9];
/// Approximates the largest expected sum of valences, squared.
const ALPHA: f64 = 15.0;

/// The compound sentiment of a text.
pub(super) fn compound(lexicon: &HashMap<String, f64>, text: &str) -> f64 {
    let words = text::words(text);
    let sentence = Sentence { lexicon, emphasis: text::capitals_differ(&words), words: &words };
    let mut valences: Vec<f64> = (0..words.len()).map(|at| sentence.valence(at)).collect();
    weigh_but(&words, &mut valences);
    normalised(valences.iter().sum(), text::punctuation(text))
}

/// The sum of valences, moved away from zero by the punctuation, squeezed into [-1, 1].
fn normalised(sum: f64, punctuation: f64) -> f64 {
    let sum = if sum > 0.0 {
        sum + punctuation
    } else if sum < 0.0 {
        sum - punctuation
    } else {
        return 0.0;
    };
    (sum / (sum * sum + ALPHA).sqrt()).clamp(-1.0, 1.0)
}

/// After "but" sentiments weigh half as much again, before it half.
///
/// The reference looks a valence up by its value, so of two equal valences it may weigh the
/// earlier one; that is kept, because a compound that differs from VADER's is not VADER's.
fn weigh_but(words: &[Word], valences: &mut [f64]) {
    let Some(but) = words.iter().position(|word| word.lower == "but") else {
        return;
    };
    for at in 0..valences.len() {
        let value = valences[at];
        if value == 0.0 {
            continue;
        }
        let first = valences.iter().position(|other| *other == value);
        let place = first.unwrap_or(at);
        match place.cmp(&but) {
            std::cmp::Ordering::Less => valences[place] = value * 0.5,
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => valences[place] = value * 1.5,
        }
    }
}

struct Sentence<'a> {
    lexicon: &'a HashMap<String, f64>,
    words: &'a [Word],
    emphasis: bool,
}

impl Sentence<'_> {
    /// The valence of the word at a place, with what the words around it do to it.
    fn valence(&self, at: usize) -> f64 {
        let word = self.lower(at);
        let kind_of = word == "kind" && self.is(at + 1, &["of"]);
        if degree(word).is_some() || kind_of {
            return 0.0;
        }
        let Some(plain) = self.lexicon.get(word) else {
            return 0.0;
        };
        let mut valence = self.capitals(at, self.no(at, *plain));
        for distance in 1..=3.min(at) {
            if !self.known(at - distance) {
                valence += self.degree_of(at - distance, valence) * DISTANCE[distance - 1];
                valence = self.negation(at, distance, valence);
                if distance == 3 {
                    valence = self.idioms(at, valence);
                }
            }
        }
        self.least(at, valence)
    }

    fn lower(&self, at: usize) -> &str {
        &self.words[at].lower
    }

    /// Whether there is a word at this place and it is one of these.
    fn is(&self, at: usize, these: &[&str]) -> bool {
        let word = self.words.get(at);
        word.is_some_and(|word| these.contains(&word.lower.as_str()))
    }

    /// As [`Self::is`], counted backwards.
    fn is_before(&self, at: usize, distance: usize, these: &[&str]) -> bool {
        at >= distance && self.is(at - distance, these)
    }

    fn known(&self, at: usize) -> bool {
        let word = self.words.get(at);
        word.is_some_and(|word| self.lexicon.contains_key(&word.lower))
    }

    /// "no" before a word of the lexicon negates it and has no valence of its own.
    fn no(&self, at: usize, plain: f64) -> f64 {
        let negated = self.is_before(at, 1, &["no"])
            || self.is_before(at, 2, &["no"])
            || (self.is_before(at, 3, &["no"]) && self.is_before(at, 1, &["or", "nor"]));
        if negated {
            plain * NEGATION
        } else if self.lower(at) == "no" && self.known(at + 1) {
            0.0
        } else {
            plain
        }
    }

    fn capitals(&self, at: usize, valence: f64) -> f64 {
        if !(self.emphasis && self.words[at].upper) {
            valence
        } else if valence > 0.0 {
            valence + CAPITALS
        } else {
            valence - CAPITALS
        }
    }

    /// What a degree word at a place adds to a valence near it.
    fn degree_of(&self, at: usize, valence: f64) -> f64 {
        let Some(degree) = degree(self.lower(at)) else {
            return 0.0;
        };
        let degree = if valence < 0.0 { -degree } else { degree };
        if !(self.emphasis && self.words[at].upper) {
            degree
        } else if valence > 0.0 {
            degree + CAPITALS
        } else {
            degree - CAPITALS
        }
    }

    /// A negation one to three words before, with "never so" and "without doubt".
    fn negation(&self, at: usize, distance: usize, valence: f64) -> f64 {
        const SO: &[&str] = &["so", "this"];
        let before = |distance, these: &[&str]| self.is_before(at, distance, these);
        let never = before(distance, &["never"]);
        let without = before(distance, &["without"]);
        let (never_so, no_doubt) = match distance {
            2 => (never && before(1, SO), without && before(1, &["doubt"])),
            3 => (never && before(2, SO) || before(1, SO), without && (before(2, &["doubt"]) || before(1, &["doubt"]))),
            _ => (false, false),
        };
        if never_so {
            valence * NEVER_SO
        } else if !no_doubt && negates(self.lower(at - distance)) {
            valence * NEGATION
        } else {
            valence
        }
    }

    /// "least" negates, except in "at least" and "very least".
    fn least(&self, at: usize, valence: f64) -> f64 {
        let least = self.is_before(at, 1, &["least"]) && !self.known(at - 1);
        if least && !self.is_before(at, 2, &["at", "very"]) { valence * NEGATION } else { valence }
    }

    /// Idioms around a word that has three words before it, then degree phrases before it.
    fn idioms(&self, at: usize, mut valence: f64) -> f64 {
        let phrase = |from: usize, to: usize| self.phrase(from, to);
        let before = [
            phrase(at - 1, at),
            phrase(at - 2, at),
            phrase(at - 2, at - 1),
            phrase(at - 3, at - 1),
            phrase(at - 3, at - 2),
        ];
        let after = [phrase(at, at + 1), phrase(at, at + 2)];
        let idioms =
            |phrases: &[Option<String>]| -> Vec<f64> { phrases.iter().flatten().filter_map(|it| idiom(it)).collect() };
        // The first idiom before the word counts, unless one follows: then the longest.
        if let Some(value) = idioms(&before).first() {
            valence = *value;
        }
        if let Some(value) = idioms(&after).last() {
            valence = *value;
        }
        let degrees = [&before[3], &before[4], &before[2]];
        let degrees = degrees.into_iter().flatten().filter_map(|it| degree(it));
        valence + degrees.sum::<f64>()
    }

    /// The words of two places and those between, when the sentence is that long.
    fn phrase(&self, from: usize, to: usize) -> Option<String> {
        let words = self.words.get(from..=to)?;
        let words: Vec<&str> = words.iter().map(|word| word.lower.as_str()).collect();
        Some(words.join(" "))
    }
}
