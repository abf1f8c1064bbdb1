//! The grammar as read from `world.txt` and `plots.txt`; the files say what their lines mean.

use std::collections::BTreeMap;

use crate::template::{Part, Template};

/// How an event feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// It pleases.
    Good,
    /// Neither, or a bit of both.
    Even,
    /// It hurts.
    Bad,
}

impl Tone {
    /// All tones, from happy to sad.
    pub const ALL: [Self; 3] = [Self::Good, Self::Even, Self::Bad];

    /// Its mark in the grammar files.
    pub fn mark(self) -> char {
        match self {
            Self::Good => '+',
            Self::Even => '=',
            Self::Bad => '-',
        }
    }
}

/// Subject, object and possessive pronoun of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pronouns {
    /// she
    pub subject: &'static str,
    /// her
    pub object: &'static str,
    /// her, before a noun
    pub possessive: &'static str,
}

impl Pronouns {
    fn parse(subject: &str) -> Result<Self, String> {
        match subject {
            "she" => Ok(Self { subject: "she", object: "her", possessive: "her" }),
            "he" => Ok(Self { subject: "he", object: "him", possessive: "his" }),
            other => Err(format!("unknown pronoun {other:?}")),
        }
    }
}

/// Somebody with a name, or, among the kin, with a noun for a name.
#[derive(Debug, Clone)]
pub struct Person {
    /// girl, fox, robot; empty among the kin
    pub kind: String,
    /// How the stories call them.
    pub name: String,
    /// Always the same ones.
    pub pronouns: Pronouns,
}

/// Lines by key: `open`, `incident+`, `end-`.
#[derive(Debug, Default)]
pub struct Frames(BTreeMap<String, Vec<Template>>);

impl Frames {
    /// The lines under `key`; none is an empty slice.
    pub fn get(&self, key: &str) -> &[Template] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
}

/// A family of stories.
#[derive(Debug, Default)]
pub struct Plot {
    /// What the family is called in `plots.txt`.
    pub name: String,
    /// Slots that are fixed for one story, with their possible values.
    pub lets: Vec<(String, Vec<String>)>,
    /// Parts for which the lines of every plot would not do: the sun has set in a night plot.
    pub own: Vec<String>,
    /// Its lines.
    pub frames: Frames,
}

/// Everything a story can be made of.
#[derive(Debug, Default)]
pub struct Grammar {
    /// Heroes and friends.
    pub cast: Vec<Person>,
    /// The hero's relatives.
    pub kin: Vec<Person>,
    /// Named alternatives.
    pub rules: BTreeMap<String, Vec<Template>>,
    /// Lines that serve every plot.
    pub any_plot: Plot,
    /// The families.
    pub plots: Vec<Plot>,
}

/// The slots that every story fills, whatever its plot.
const SLOTS: [&str; 8] = ["hero", "who", "he", "him", "his", "pal", "other", "kin"];

impl Grammar {
    /// Reads the grammar files and checks that every slot and rule in them exists.
    pub fn parse(files: &[&str]) -> Result<Self, String> {
        let mut grammar = Self::default();
        let mut section = String::new();
        let lines = files.iter().flat_map(|file| file.lines());
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(title) => {
                    section = title.to_owned();
                    grammar.begin(title);
                }
                None => grammar.line(&section, line).map_err(|why| format!("{line:?}: {why}"))?,
            }
        }
        grammar.check()?;
        Ok(grammar)
    }

    fn begin(&mut self, title: &str) {
        if let Some(name) = title.strip_prefix("plot ") {
            self.plots.push(Plot { name: name.to_owned(), ..Plot::default() });
        }
    }

    fn line(&mut self, section: &str, line: &str) -> Result<(), String> {
        match section.split_once(' ').unwrap_or((section, "")) {
            ("cast", _) => self.cast.extend(people(line)?),
            ("kin", _) => self.kin.extend(people(line)?),
            ("rule", name) => {
                self.rules.entry(name.to_owned()).or_default().push(Template::parse(line)?);
            }
            ("any", _) => self.any_plot.line(line)?,
            ("plot", _) => self.plots.last_mut().ok_or("no plot yet")?.line(line)?,
            _ => return Err(format!("unknown section {section:?}")),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        for template in self.rules.values().flatten() {
            self.check_template(template, &self.any_plot)?;
        }
        for plot in self.plots.iter().chain([&self.any_plot]) {
            for template in plot.frames.0.values().flatten() {
                self.check_template(template, plot)?;
            }
        }
        Ok(())
    }

    fn check_template(&self, template: &Template, plot: &Plot) -> Result<(), String> {
        let known = |part: &&&Part| match part {
            Part::Slot(slot) => SLOTS.contains(&slot.as_str()) || plot.lets.iter().any(|(name, _)| name == slot),
            Part::Rule(rule) => self.rules.contains_key(rule),
            _ => true,
        };
        match template.parts().iter().find(|part| !known(part)) {
            None => Ok(()),
            Some(part) => Err(format!("plot {:?} uses an unknown {part:?}", plot.name)),
        }
    }
}

impl Plot {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(binding) = line.strip_prefix("let ") {
            let (name, values) = binding.split_once(" = ").ok_or("let without =")?;
            let values = values.split('|').map(|value| value.trim().to_owned()).collect();
            self.lets.push((name.to_owned(), values));
        } else if let Some(part) = line.strip_prefix("own ") {
            self.own.push(part.to_owned());
        } else {
            let (key, text) = line.split_once(": ").ok_or("a line without a key")?;
            self.frames.0.entry(key.to_owned()).or_default().push(Template::parse(text.trim())?);
        }
        Ok(())
    }
}

/// `girl she: Mia Lily`, or `she: mother aunt`.
fn people(line: &str) -> Result<Vec<Person>, String> {
    let (head, names) = line.split_once(": ").ok_or("people without a colon")?;
    let (kind, pronoun) = head.split_once(' ').unwrap_or(("", head));
    let pronouns = Pronouns::parse(pronoun)?;
    let person = |name: &str| Person { kind: kind.to_owned(), name: name.to_owned(), pronouns };
    Ok(names.split_whitespace().map(person).collect())
}
