//! The loop: sample from the behaviour policy, ask the annotator, take a step on the pairs, refresh.
//! Start from [`run`] (online preference optimisation), [`sft`] or [`reward`]; a [`Recipe`] says everything else.
//! This crate parses no flags and prints nothing: what happens is told to an [`Observer`].
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod causal;
mod choice;
mod collect;
mod dataset;
mod diversity;
mod ensemble;
mod error;
mod evaluate;
mod export;
mod length_controlled;
mod numerics;
mod observer;
mod optimizer;
mod prospect;
mod recipe;
mod rehearsal;
mod remote;
mod replay;
mod report;
mod reward;
mod rows_at_work;
mod run;
mod schedule;
mod score;
mod sft;
mod state;
mod statistics;
mod step_metrics;
mod steps;
mod trainable;
mod update;

pub use causal::{CausalInputs, causal};
pub use choice::Choice;
pub use collect::{Drawn, Origin, Sample};
pub use dataset::{EvalPrompt, HELD_OUT, Prepared, TrainPrompt, TrainRows, eval_prompts, prepare};
pub use diversity::Diversity;
pub use error::Error;
pub use evaluate::{Evaluation, Evaluator, Judged, judge, log_ratios, win_rate, wins_by_score};
pub use length_controlled::{SizedWin, length_controlled_win_rate, sized_wins};
pub use observer::{Interrupt, Observer, ShownPair, Silent, Stage};
pub use optimizer::{AdamW, AdamWConfig, Gradients};
pub use recipe::{
    CausalEstimator, CausalForm, CausalRecipe, CollectionPhases, EvalStrategy, FDivergenceType, LrScheduler, OneOrMany,
    Recipe, Reference, RewardRecipe, SftRecipe, Tuning,
};
pub use rehearsal::{Body, Footprint, Load, Pace, Plan, Rehearsal, Sizes, Trial};
pub use remote::Remote;
pub use report::{CurvePoint, Report, SamplePair};
pub use reward::{ReliabilityBin, RewardEvaluation, RewardInputs, RewardReport, reward, reward_ids};
pub use run::{Inputs, Outcome, run};
pub use schedule::{LearningRate, RefreshSchedule};
pub use score::{Scored, backward, sequence_logps, token_logps};
pub use sft::{SftInputs, SftReport, sft};
pub use statistics::{Interval, bootstrap_mean};
pub use trainable::Trainable;
