//! Prompt and responses in, [`Verdict`]s out: lexicons, rules, programs, reward models, judges behind
//! HTTP, and panels of these.
//! Start from [`AnnotatorConfig::build`], or from [`Annotator`] to bring your own judge.
//! It never trains, links no tensor library, and never turns a missing answer into a preference.
#![doc = ""]
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod agreement;
mod annotator;
mod cache;
mod chat;
mod command;
mod config;
mod contest;
mod error;
mod lexicon;
mod local;
mod optune;
mod orders;
mod panel;
mod quota;
mod ranking;
mod reward;
mod rules;
mod scorer;
mod service;
mod statistics;
mod verdict;

pub use bpo_service::{MOST_TRIES, Patience, Secret, ServiceUrl};

pub use agreement::{Agreement, Between};
pub use annotator::{Annotator, Item, TieIdentical, compare_distinct};
pub use command::{Command, CommandJudge, CommandScorer, reply_score, reply_verdict, split_words};
pub use config::{
    AnnotatorConfig, AnnotatorKind, CacheChoice, ChatConfig, CommandConfig, JudgeConfig, LengthConfig, LexiconConfig,
    Mode, Order, PairRankerConfig, PairTemplate, PanelConfig, Parts, Reading, RegexConfig, RewardEndpointConfig,
    RewardModelConfig, ServiceConfig,
};
pub use contest::{Contest, Extremes, Undecided, extremes};
pub use error::Error;
pub use lexicon::Lexicon;
pub use local::{LocalModel, PairRanker, PairScorer, Question, Reply};
pub use optune::{gap_weight, lowest_fraction};
pub use orders::{BothOrders, PositionBias, RandomOrder, ShownFirst};
pub use panel::{Combine, Panel};
pub use quota::AbstainQuota;
pub use ranking::{Ranking, rank};
pub use reward::RewardFormat;
pub use rules::{Counting, Length, LengthGoal, Prefer, RegexRule, Sign, Unit};
pub use scorer::{ClosureScorer, Scored, Scorer, missing_eos_penalty, scorer_from};
pub use service::Budget;
pub use statistics::Statistics;
pub use verdict::{Abstention, Comparison, Judgement, TieRule, Verdict};
