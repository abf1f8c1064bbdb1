//! From settings to an annotator.

use std::path::Path;
use std::time::Duration;

use super::{AnnotatorConfig, AnnotatorKind, CommandConfig, LengthConfig, LexiconConfig, Mode};
use crate::{
    Annotator, BothOrders, Command, CommandJudge, CommandScorer, Error, Length, LengthGoal, Lexicon, Prefer, RegexRule,
    Scored, Scorer, TieIdentical,
};

/// What an annotator may need that this crate does not have; the program supplies it.
pub trait Parts {
    /// The bytes of the lexicon that comes with the program.
    fn embedded_lexicon(&self) -> &[u8];

    /// Loads the reward model of a folder.
    ///
    /// # Errors
    /// [`Error::Load`] with the reason.
    fn reward_model(&mut self, folder: &Path) -> Result<Box<dyn Scorer + Send>, Error>;
}

/// A judge, before it is wrapped.
enum Judge {
    Scores(Box<dyn Scorer + Send>),
    Compares(Box<dyn Annotator + Send>),
}

impl AnnotatorConfig {
    /// The annotator that these settings describe. Identical responses tie without a question.
    ///
    /// # Errors
    /// Those of its parts, and [`Error::Config`] for settings that contradict each other or
    /// have no effect.
    pub fn build(&self, parts: &mut dyn Parts) -> Result<Box<dyn Annotator + Send>, Error> {
        self.check()?;
        Ok(match (self.judge(parts)?, self.both_orders) {
            (Judge::Scores(scorer), _) => Box::new(TieIdentical(Scored(scorer))),
            (Judge::Compares(judge), false) => Box::new(TieIdentical(judge)),
            (Judge::Compares(judge), true) => Box::new(TieIdentical(BothOrders::new(judge))),
        })
    }

    /// Checks what no single key can check; nothing is read or started.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that contradict each other or have no effect.
    pub fn check(&self) -> Result<(), Error> {
        let compares = matches!(&self.kind, AnnotatorKind::Command(it) if it.mode == Mode::Compare);
        if self.both_orders && !compares {
            return Err(refuse(
                "`both_orders` has no effect on scores, which do not depend on an order; \
                 it is for `kind = \"command\"` with `mode = \"compare\"`",
            ));
        }
        match &self.kind {
            AnnotatorKind::Length(it) if it.prefer.is_some() && it.target.is_some() => {
                Err(refuse("`prefer` has no effect beside `target`: give one of them"))
            }
            AnnotatorKind::Command(it) if it.program.is_empty() => Err(refuse("`program` names no program")),
            AnnotatorKind::Command(it) => it.timeout().map(|_| ()),
            _ => Ok(()),
        }
    }

    fn judge(&self, parts: &mut dyn Parts) -> Result<Judge, Error> {
        Ok(match &self.kind {
            AnnotatorKind::Lexicon(it) => Judge::Scores(Box::new(it.build(parts)?)),
            AnnotatorKind::Length(it) => Judge::Scores(Box::new(it.build())),
            AnnotatorKind::Regex(it) => Judge::Scores(Box::new(RegexRule::new(&it.pattern, it.count, it.prefer)?)),
            AnnotatorKind::RewardModel(it) => Judge::Scores(parts.reward_model(&it.path)?),
            AnnotatorKind::Command(it) => it.build()?,
        })
    }
}

fn refuse(reason: &str) -> Error {
    Error::Config(reason.to_owned())
}

impl LexiconConfig {
    fn build(&self, parts: &dyn Parts) -> Result<Lexicon, Error> {
        match &self.path {
            Some(path) => Lexicon::vader(path),
            None => Lexicon::from_bytes("(built in)", parts.embedded_lexicon()),
        }
    }
}

impl LengthConfig {
    fn build(&self) -> Length {
        let goal = match (self.target, self.prefer) {
            (Some(target), _) => LengthGoal::Near(target),
            (None, Some(Prefer::Shorter)) => LengthGoal::Shorter,
            (None, Some(Prefer::Longer) | None) => LengthGoal::Longer,
        };
        let unit = self.unit;
        Length { unit, goal }
    }
}

impl CommandConfig {
    fn build(&self) -> Result<Judge, Error> {
        let command = Command { program: self.program.clone(), folder: self.cwd.clone(), timeout: self.timeout()? };
        Ok(match self.mode {
            Mode::Score => Judge::Scores(Box::new(CommandScorer::start(command)?)),
            Mode::Compare => Judge::Compares(Box::new(CommandJudge::start(command)?)),
        })
    }

    /// At least a millisecond and at most a day, so that no clock overflows.
    fn timeout(&self) -> Result<Duration, Error> {
        let seconds = self.timeout_s;
        match (0.001..=86_400.0).contains(&seconds) {
            true => Ok(Duration::from_secs_f64(seconds)),
            false => Err(Error::Config(format!("`timeout_s` is {seconds}: expected seconds between 0.001 and 86400"))),
        }
    }
}
