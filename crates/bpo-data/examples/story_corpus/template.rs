//! One line of the grammar: text with choices, `(a|b)`, slots, `{hero}`, and rules, `<glad>`.

use std::{iter::Peekable, str::Chars};

/// A parsed line.
#[derive(Debug, Clone, Default)]
pub struct Template(pub Vec<Part>);

/// A piece of a [`Template`].
#[derive(Debug, Clone)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// A value that is fixed for a whole story.
    Slot(String),
    /// A line of the named rule, picked afresh.
    Rule(String),
    /// One of several alternatives.
    Choice(Vec<Template>),
}

impl Template {
    /// Parses a line; brackets must match.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut chars = line.chars().peekable();
        let template = Self::sequence(&mut chars)?;
        match chars.next() {
            None => Ok(template),
            Some(stray) => Err(format!("stray {stray:?} in {line:?}")),
        }
    }

    /// Every part at every depth of choices.
    pub fn parts(&self) -> Vec<&Part> {
        let inner = self.0.iter().flat_map(|part| match part {
            Part::Choice(options) => options.iter().flat_map(Self::parts).collect(),
            _ => Vec::new(),
        });
        self.0.iter().chain(inner).collect()
    }

    /// Whether `slot` occurs anywhere.
    pub fn mentions(&self, slot: &str) -> bool {
        self.parts().into_iter().any(|part| matches!(part, Part::Slot(name) if name == slot))
    }

    /// Reads parts up to the end, a `|` or a `)`.
    fn sequence(chars: &mut Peekable<Chars<'_>>) -> Result<Self, String> {
        let mut parts = Vec::new();
        while let Some(next) = chars.next_if(|c| !matches!(c, '|' | ')')) {
            parts.push(match next {
                '{' => Part::Slot(Self::name(chars, '}')?),
                '<' => Part::Rule(Self::name(chars, '>')?),
                '(' => Self::choice(chars)?,
                first => Self::text(first, chars),
            });
        }
        Ok(Self(parts))
    }

    fn choice(chars: &mut Peekable<Chars<'_>>) -> Result<Part, String> {
        let mut options = Vec::new();
        loop {
            options.push(Self::sequence(chars)?);
            match chars.next() {
                Some('|') => {}
                Some(')') => return Ok(Part::Choice(options)),
                _ => return Err("a ( without its )".into()),
            }
        }
    }

    fn name(chars: &mut Peekable<Chars<'_>>, close: char) -> Result<String, String> {
        let mut name = String::new();
        for next in chars.by_ref() {
            if next == close {
                return Ok(name);
            }
            name.push(next);
        }
        Err(format!("{name:?} lacks its {close:?}"))
    }

    fn text(first: char, chars: &mut Peekable<Chars<'_>>) -> Part {
        let mut text = String::from(first);
        while let Some(next) = chars.next_if(|c| !matches!(c, '(' | ')' | '|' | '{' | '<')) {
            text.push(next);
        }
        Part::Text(text)
    }
}
