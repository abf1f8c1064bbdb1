//! From settings to an annotator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::local::PairTemplate;
use super::{AnnotatorConfig, AnnotatorKind, CommandConfig, LengthConfig, LexiconConfig, Mode, Order, PanelConfig};
use crate::panel::checked;
use crate::{
    Annotator, BothOrders, Command, CommandJudge, CommandScorer, Error, Length, LengthGoal, Lexicon, LocalModel,
    PairRanker, PairScorer, Panel, Prefer, RandomOrder, RegexRule, Scored, Scorer, TieIdentical,
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

    /// Loads the language model of a folder, or the program's own (`embedded`), to be asked.
    ///
    /// # Errors
    /// [`Error::Load`] with the reason.
    fn judge_model(&mut self, folder: &Path) -> Result<Box<dyn LocalModel + Send>, Error> {
        let (name, reason) = (folder.display().to_string(), "this program has no local judges".to_owned());
        Err(Error::Load { name, reason })
    }

    /// Loads the pairwise ranker of a folder; `template` makes one text of two responses where it needs one, and `is_own`
    /// says whether the settings named it.
    ///
    /// # Errors
    /// [`Error::Load`] with the reason.
    fn pair_ranker(
        &mut self,
        folder: &Path,
        template: PairTemplate,
        is_own: bool,
    ) -> Result<Box<dyn PairScorer + Send>, Error> {
        let _ = (template, is_own);
        let (name, reason) = (folder.display().to_string(), "this program has no pairwise rankers".to_owned());
        Err(Error::Load { name, reason })
    }

    /// An environment variable, which may hold a key; this crate reads none itself.
    fn environment(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }

    /// The folder of answers of `cache = true`; `None` keeps them for as long as the process lives.
    fn cache_folder(&self) -> Option<PathBuf> {
        None
    }
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
        let random = self.order == Some(Order::Random) || (self.order.is_none() && self.asks_a_model());
        Ok(match self.judge(parts)? {
            Judge::Scores(scorer) => Box::new(TieIdentical(Scored(scorer))),
            Judge::Compares(judge) if self.both_orders => Box::new(TieIdentical(BothOrders::new(judge))),
            Judge::Compares(judge) if random => Box::new(TieIdentical(RandomOrder::new(judge))),
            Judge::Compares(judge) => Box::new(TieIdentical(judge)),
        })
    }

    fn asks_a_model(&self) -> bool {
        matches!(self.kind, AnnotatorKind::Chat(_) | AnnotatorKind::Judge(_))
    }

    /// Checks what no single key can check; nothing is read, started or asked.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that contradict each other or have no effect.
    pub fn check(&self) -> Result<(), Error> {
        let compares = match &self.kind {
            AnnotatorKind::Command(it) => it.mode == Mode::Compare,
            AnnotatorKind::Chat(it) => it.mode == Mode::Compare,
            AnnotatorKind::Judge(it) => it.mode == Mode::Compare,
            _ => false,
        };
        if let AnnotatorKind::Panel(_) = &self.kind
            && (self.both_orders || self.order.is_some())
        {
            return Err(refuse("`both_orders` and `order` belong to the members of a panel that compare"));
        }
        if let AnnotatorKind::PairRanker(_) = &self.kind
            && (self.both_orders || self.order.is_some())
        {
            return Err(refuse(
                "`both_orders` and `order` have no effect on a pair ranker: it always reads both orders",
            ));
        }
        if self.both_orders && !compares {
            return Err(refuse(
                "`both_orders` has no effect on scores, which do not depend on an order; \
                 it is for `kind = \"command\"`, `kind = \"chat\"` and `kind = \"judge\"` with `mode = \"compare\"`",
            ));
        }
        if self.order.is_some() && !compares {
            return Err(refuse("`order` has no effect on scores, which do not depend on an order"));
        }
        if self.order.is_some() && self.both_orders {
            return Err(refuse("`order` has no effect beside `both_orders`: give one of them"));
        }
        self.service.as_ref().map_or(Ok(()), |service| service.check())?;
        match &self.kind {
            AnnotatorKind::Length(it) if it.prefer.is_some() && it.target.is_some() => {
                Err(refuse("`prefer` has no effect beside `target`: give one of them"))
            }
            AnnotatorKind::Command(it) if it.program.is_empty() => Err(refuse("`program` names no program")),
            AnnotatorKind::Command(it) => it.timeout().map(|_| ()),
            AnnotatorKind::Chat(it) => it.check(),
            AnnotatorKind::RewardEndpoint(it) => it.check(),
            AnnotatorKind::Judge(it) => it.check(),
            AnnotatorKind::Panel(it) => it.check(),
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
            AnnotatorKind::Chat(it) => {
                let service = self.service.clone().unwrap_or_default();
                match it.mode {
                    Mode::Compare => Judge::Compares(Box::new(it.judge(&service, parts)?)),
                    Mode::Score => Judge::Scores(Box::new(it.rater(&service, parts)?)),
                }
            }
            AnnotatorKind::Judge(it) => match it.mode {
                Mode::Compare => Judge::Compares(Box::new(it.judge(parts)?)),
                Mode::Score => Judge::Scores(Box::new(it.rater(parts)?)),
            },
            AnnotatorKind::PairRanker(it) => {
                let scorer = parts.pair_ranker(&it.path, it.template()?, it.template.is_some())?;
                Judge::Compares(Box::new(PairRanker::new(scorer)))
            }
            AnnotatorKind::RewardEndpoint(it) => {
                Judge::Scores(Box::new(it.build(&self.service.clone().unwrap_or_default(), parts)?))
            }
            AnnotatorKind::Panel(it) => {
                let members = it.members.iter().map(|member| member.build(parts)).collect::<Result<Vec<_>, Error>>()?;
                Judge::Compares(Box::new(Panel::new(members, &it.weights, it.combine)?))
            }
        })
    }
}

fn refuse(reason: &str) -> Error {
    Error::Config(reason.to_owned())
}

impl PanelConfig {
    fn check(&self) -> Result<(), Error> {
        checked(self.members.len(), &self.weights)?;
        self.members.iter().try_for_each(AnnotatorConfig::check)
    }
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

    fn timeout(&self) -> Result<Duration, Error> {
        bpo_service::seconds("timeout_s", self.timeout_s).map_err(Error::Config)
    }
}
