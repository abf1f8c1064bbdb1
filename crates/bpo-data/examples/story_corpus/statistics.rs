//! What the corpus looks like, for the person who rebuilds it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use tokenizers::Tokenizer;

use crate::{grammar::Tone, story::Story};

/// Words with a sentiment from −4 to 4.
pub struct Lexicon(BTreeMap<String, f64>);

impl Lexicon {
    /// Reads lines of `word<TAB>value`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entry = |line: &str| {
            let (word, value) = line.split_once('\t').ok_or_else(|| format!("{line:?} lacks a tab"))?;
            let value: f64 = value.parse().map_err(|_| format!("{line:?}: not a number"))?;
            Ok((word.to_owned(), value))
        };
        text.lines().map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// The sum over the words of `text`.
    pub fn score(&self, text: &str) -> f64 {
        words(text).map(|word| self.0.get(&word).copied().unwrap_or_default()).sum()
    }
}

/// Lower-case words, without punctuation.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Prints token counts and sentiment of `stories`, which come with the tone they were told in.
pub fn report(
    out: &mut impl Write,
    stories: &[(Tone, Story)],
    tokenizer: &Tokenizer,
    lexicon: &Lexicon,
) -> tokenizers::Result<()> {
    let mut lengths = Vec::with_capacity(stories.len());
    let (mut tokens, mut word_count) = (0, 0);
    let mut vocabulary = BTreeSet::new();
    for (_, story) in stories {
        let text = format!("{}{}", story.prompt, story.completion);
        let length = tokenizer.encode_fast(text.as_str(), false)?.len();
        tokens += length;
        word_count += text.split_whitespace().count();
        vocabulary.extend(words(&text));
        lengths.push(length as f64);
    }
    let (tokens, word_count) = (tokens as f64, word_count as f64);
    writeln!(out, "tokens {tokens}, words {word_count}, tokens per word {:.3}", tokens / word_count)?;
    writeln!(out, "different words {}", vocabulary.len())?;
    spread(out, "tokens per story", lengths)?;

    let scored: Vec<(Tone, f64)> =
        stories.iter().map(|(tone, story)| (*tone, lexicon.score(&story.completion))).collect();
    signs(out, &scored)?;
    spread(out, "lexicon score of an opening", stories.iter().map(|(_, s)| lexicon.score(&s.prompt)).collect())?;
    spread(out, "lexicon score of a continuation", scored.iter().map(|(_, score)| *score).collect())?;
    for tone in Tone::ALL {
        let scores = scored.iter().filter(|(of, _)| *of == tone).map(|(_, score)| *score).collect();
        spread(out, &format!("  of tone {}", tone.mark()), scores)?;
    }
    Ok(())
}

fn signs(out: &mut impl Write, scored: &[(Tone, f64)]) -> io::Result<()> {
    let share = |of: fn(f64) -> bool| {
        100.0 * scored.iter().filter(|(_, score)| of(*score)).count() as f64 / scored.len() as f64
    };
    let (up, down, zero) = (share(|s| s > 0.0), share(|s| s < 0.0), share(|s| s == 0.0));
    writeln!(out, "continuations: {up:.1} % positive, {down:.1} % negative, {zero:.1} % zero")
}

/// Mean and percentiles.
fn spread(out: &mut impl Write, what: &str, mut values: Vec<f64>) -> io::Result<()> {
    values.sort_by(f64::total_cmp);
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let at = |percent: usize| values.get((values.len().saturating_sub(1)) * percent / 100).copied().unwrap_or_default();
    write!(out, "{what}: mean {mean:.2};")?;
    for percent in [0, 5, 25, 50, 75, 95, 99, 100] {
        write!(out, " p{percent} {:.1}", at(percent))?;
    }
    writeln!(out)
}
