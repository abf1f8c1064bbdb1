//! How different the texts of one policy are: collapse and stock phrases show here before a score does.
use std::collections::{HashMap, HashSet};

use serde::Serialize;

/// Words of a phrase that texts may share.
const PHRASE: usize = 4;

/// How different texts are. Words are what white space separates: languages written without it have few.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Diversity {
    /// Different words as a share of all words (Li et al. 2016, arXiv:1510.03055); `None` without any.
    pub distinct_1: Option<f64>,
    /// The same of pairs of neighbouring words.
    pub distinct_2: Option<f64>,
    /// The same of triples.
    pub distinct_3: Option<f64>,
    /// Share of a text's phrases of four words that another of the texts has too, mean over the texts that have such
    /// phrases; 0 where no two texts share one.
    pub self_overlap: Option<f64>,
}

impl Diversity {
    /// Of `texts`.
    pub fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let texts: Vec<Vec<&str>> = texts.map(|text| text.split_whitespace().collect()).collect();
        let [distinct_1, distinct_2, distinct_3] = [1, 2, 3].map(|n| distinct(&texts, n));
        Self { distinct_1, distinct_2, distinct_3, self_overlap: self_overlap(&texts) }
    }
}

fn distinct(texts: &[Vec<&str>], n: usize) -> Option<f64> {
    let all = texts.iter().flat_map(|words| words.windows(n));
    let count = all.clone().count();
    (count > 0).then(|| all.collect::<HashSet<_>>().len() as f64 / count as f64)
}

fn self_overlap(texts: &[Vec<&str>]) -> Option<f64> {
    let phrases: Vec<HashSet<&[&str]>> = texts.iter().map(|words| words.windows(PHRASE).collect()).collect();
    let mut holders: HashMap<&[&str], usize> = HashMap::new();
    for phrase in phrases.iter().flatten() {
        *holders.entry(*phrase).or_default() += 1;
    }
    let share = |own: &HashSet<&[&str]>| {
        own.iter().filter(|phrase| holders.get(*phrase).is_some_and(|count| *count > 1)).count() as f64
            / own.len() as f64
    };
    let shares: Vec<f64> = phrases.iter().filter(|own| !own.is_empty()).map(share).collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_over_all_texts() {
        let found = Diversity::of(["a b a", "a  c"].into_iter());
        // a b a a c: 3 of 5; ab ba ac: 3 of 3; aba: 1 of 1.
        assert_eq!([found.distinct_1, found.distinct_2, found.distinct_3], [Some(0.6), Some(1.0), Some(1.0)]);
        assert_eq!(found.self_overlap, None);
        let none = Diversity::of([" ", ""].into_iter());
        assert_eq!([none.distinct_1, none.self_overlap], [None; 2]);
    }

    #[test]
    fn equal_texts_overlap_wholly_and_a_text_never_with_itself() {
        let of = |texts: &[&'static str]| Diversity::of(texts.iter().copied()).self_overlap;
        assert_eq!(of(&["one two three four five", "one two three four five"]), Some(1.0));
        assert_eq!(of(&["one two three four one two three four"]), Some(0.0));
        // One of two phrases of the first, the only one of the second; "short" has none.
        assert_eq!(of(&["one two three four five", "one two three four", "short"]), Some(0.75));
    }
}
