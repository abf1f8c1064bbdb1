//! Prompt and responses in, [`Verdict`]s out: lexicons, rules, programs, reward models.
//! Start from [`AnnotatorConfig::build`], or from [`Annotator`] to bring your own judge.
//! It never trains, links no tensor library, and never turns a missing answer into a preference.
#![doc = ""]
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod annotator;
mod command;
mod config;
mod contest;
mod error;
mod lexicon;
mod optune;
mod orders;
mod ranking;
mod rules;
mod scorer;
mod verdict;

pub use annotator::{Annotator, Item, TieIdentical, compare_distinct};
pub use command::{Command, CommandJudge, CommandScorer, reply_score, reply_verdict, split_words};
pub use config::{
    AnnotatorConfig, AnnotatorKind, CommandConfig, LengthConfig, LexiconConfig, Mode, Parts, RegexConfig,
    RewardModelConfig,
};
pub use contest::{Contest, Extremes, Undecided, extremes};
pub use error::Error;
pub use lexicon::Lexicon;
pub use optune::{gap_weight, lowest_fraction};
pub use orders::{BothOrders, PositionBias};
pub use ranking::{Ranking, rank};
pub use rules::{Counting, Length, LengthGoal, Prefer, RegexRule, Sign, Unit};
pub use scorer::{ClosureScorer, Scored, Scorer, missing_eos_penalty, scorer_from};
pub use verdict::{Abstention, Comparison, Judgement, TieRule, Verdict};
