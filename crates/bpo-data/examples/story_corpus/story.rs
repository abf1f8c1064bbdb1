//! Tells stories: an opening that leaves the outcome open, then a continuation of a given tone.

use std::collections::BTreeMap;

use crate::{
    dice::Dice,
    grammar::{Grammar, Person, Plot, Tone},
    template::{Part, Template},
};

/// A line of the corpus: what the model is given, and one way to go on.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Story {
    /// The opening.
    pub prompt: String,
    /// The continuation, with the space that separates it from the opening.
    pub completion: String,
}

/// A story in the telling: its people and things stay the same from the opening to the end.
///
/// The friend's pronouns differ from the hero's, so that "he" and "she" are never in doubt.
pub struct Scene<'g> {
    grammar: &'g Grammar,
    plot: &'g Plot,
    hero: &'g Person,
    pal: &'g Person,
    kin: &'g Person,
    lets: BTreeMap<&'g str, &'g str>,
    hero_met: bool,
    pal_met: bool,
    kin_met: bool,
}

impl<'g> Scene<'g> {
    /// Chooses plot, people and things.
    pub fn draw(grammar: &'g Grammar, dice: &mut Dice) -> Result<Self, String> {
        let plot = dice.pick(&grammar.plots).ok_or("no plots")?;
        let hero = dice.pick(&grammar.cast).ok_or("no cast")?;
        let others: Vec<_> = grammar.cast.iter().filter(|p| p.pronouns != hero.pronouns).collect();
        let mut lets = BTreeMap::new();
        for (name, values) in &plot.lets {
            let value = dice.pick(values).ok_or("a let without values")?;
            lets.insert(name.as_str(), value.as_str());
        }
        Ok(Self {
            grammar,
            plot,
            hero,
            pal: dice.pick(&others).ok_or("nobody to be a friend")?,
            kin: dice.pick(&grammar.kin).ok_or("no kin")?,
            lets,
            hero_met: false,
            pal_met: false,
            kin_met: false,
        })
    }

    /// The opening: two sentences.
    pub fn open(&mut self, dice: &mut Dice) -> Result<String, String> {
        let template = dice.pick(self.plot.frames.get("open")).ok_or("no opening")?;
        self.render(template, dice)
    }

    /// The continuation: an incident and an outcome, often a reaction and a last line too.
    ///
    /// Only the outcome is sure to have the tone asked for: the other sentences lean towards it,
    /// so that stories of one tone still differ in how happy they are.
    pub fn go_on(&mut self, tone: Tone, dice: &mut Dice) -> Result<String, String> {
        let incident = if dice.chance(40) { tone } else { *dice.pick(&Tone::ALL).unwrap_or(&tone) };
        let mut sentences = vec![self.sentence("incident", incident, dice)?];
        if dice.chance(55) {
            let reaction = if dice.chance(75) { incident } else { Tone::Even };
            sentences.push(self.sentence("react", reaction, dice)?);
        }
        sentences.push(self.outcome(incident, tone, dice)?);
        if dice.chance(65) {
            let last = if dice.chance(85) { tone } else { Tone::Even };
            sentences.push(self.sentence("close", last, dice)?);
        }
        Ok(format!(" {}", sentences.join(" ")))
    }

    /// A sentence of the plot's own, or, more often, one that serves every plot.
    fn sentence(&mut self, part: &str, tone: Tone, dice: &mut Dice) -> Result<String, String> {
        let key = format!("{part}{}", tone.mark());
        let shared = self.grammar.any_plot.frames.get(&key);
        let sharing = !shared.is_empty() && !self.plot.own.iter().any(|own| own == part);
        let frames = if sharing && dice.chance(60) { shared } else { self.plot.frames.get(&key) };
        // A last line does not bring in a friend nobody has met.
        let fits = |frame: &&Template| part != "close" || self.pal_met || !frame.mentions("pal");
        let fitting: Vec<_> = frames.iter().filter(fits).collect();
        let frame = dice.pick(&fitting).ok_or_else(|| format!("{}: no {key}", self.plot.name))?;
        self.render(frame, dice)
    }

    fn outcome(&mut self, incident: Tone, tone: Tone, dice: &mut Dice) -> Result<String, String> {
        let mut text =
            Template(vec![Part::Rule(format!("lead {}{}", incident.mark(), tone.mark())), Part::Text(" ".into())]);
        let key = format!("end{}", tone.mark());
        let end = dice.pick(self.plot.frames.get(&key)).ok_or_else(|| format!("no {key}"))?;
        text.0.extend(end.0.iter().cloned());
        self.render(&text, dice)
    }

    fn render(&mut self, template: &Template, dice: &mut Dice) -> Result<String, String> {
        let mut text = String::new();
        self.expand(template, dice, &mut text)?;
        Ok(polish(&text))
    }

    fn expand(&mut self, template: &Template, dice: &mut Dice, out: &mut String) -> Result<(), String> {
        for part in &template.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Slot(slot) => out.push_str(&self.slot(slot, dice)?),
                Part::Rule(rule) => {
                    let lines = self.grammar.rules.get(rule).ok_or_else(|| format!("no rule {rule}"))?;
                    self.expand(dice.pick(lines).ok_or("an empty rule")?, dice, out)?;
                }
                Part::Choice(options) => {
                    self.expand(dice.pick(options).ok_or("an empty choice")?, dice, out)?;
                }
            }
        }
        Ok(())
    }

    fn slot(&mut self, slot: &str, dice: &mut Dice) -> Result<String, String> {
        let Person { name, pronouns, .. } = self.hero;
        Ok(match slot {
            "hero" => self.hero(dice),
            // The pronoun, unless it could mean the relative.
            "who" => {
                let doubt = self.kin_met && self.kin.pronouns == *pronouns;
                if doubt || dice.chance(40) { name.clone() } else { pronouns.subject.into() }
            }
            "he" => pronouns.subject.into(),
            "him" => pronouns.object.into(),
            "his" => pronouns.possessive.into(),
            "kin" => {
                self.kin_met = true;
                self.kin.name.clone()
            }
            "pal" if !std::mem::replace(&mut self.pal_met, true) => {
                format!("{} friend {}", pronouns.possessive, self.pal.name)
            }
            "pal" => self.pal.name.clone(),
            "other" => {
                self.pal_met = true;
                self.pal.name.clone()
            }
            name => (*self.lets.get(name).ok_or_else(|| format!("no slot {name}"))?).to_owned(),
        })
    }

    /// The hero's name; at first, often with what they are.
    fn hero(&mut self, dice: &mut Dice) -> String {
        let Person { kind, name, .. } = self.hero;
        let human = matches!(kind.as_str(), "girl" | "boy");
        if std::mem::replace(&mut self.hero_met, true) || (human && dice.chance(60)) {
            return name.clone();
        }
        let size = dice.pick(&["little ", "small ", "young ", ""]).copied().unwrap_or_default();
        if human || dice.chance(60) {
            format!("a {size}{kind} named {name}")
        } else {
            format!("{name} the {size}{kind}")
        }
    }
}

/// Mends spaces, articles and capitals.
fn polish(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut out = String::with_capacity(text.len());
    for (i, word) in words.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        let vowel = words.get(i + 1).is_some_and(|next| next.starts_with(['a', 'e', 'i', 'o', 'u']));
        let word = if *word == "a" && vowel { "an" } else { word };
        let opens = i == 0 || word.starts_with('"') || words[i - 1].ends_with(['.', '!', '?']);
        if opens { capitalise(word, &mut out) } else { out.push_str(word) }
    }
    out.replace(" ,", ",").replace(" .", ".").replace(" !", "!")
}

/// Writes `word` with its first letter, which may follow a quotation mark, as a capital.
fn capitalise(word: &str, out: &mut String) {
    let mut waiting = true;
    for c in word.chars() {
        out.push(if waiting && c.is_ascii_alphabetic() { c.to_ascii_uppercase() } else { c });
        waiting &= !c.is_ascii_alphabetic();
    }
}
