//! The loop: sample from the behaviour policy, ask the annotator, take a step on the pairs, refresh.
//! Start from [`run`] (online preference optimisation) or [`sft`]; a [`Recipe`] says everything else.
//! This crate parses no flags and prints nothing: what happens is told to an [`Observer`].
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod causal;
mod collect;
mod dataset;
mod error;
mod evaluate;
mod observer;
mod optimizer;
mod recipe;
mod report;
mod run;
mod schedule;
mod score;
mod sft;
mod state;
mod statistics;
mod step_metrics;
mod trainable;

pub use causal::{CausalInputs, causal};
pub use collect::{Drawn, Sample};
pub use dataset::{EvalPrompt, Prepared, TrainPrompt, eval_prompts, prepare};
pub use error::Error;
pub use evaluate::{Evaluation, Evaluator, win_rate};
pub use observer::{Observer, Silent, Stage};
pub use optimizer::{AdamW, AdamWConfig, Gradients};
pub use recipe::{
    CausalEstimator, CausalForm, CausalRecipe, CollectionPhases, LrScheduler, Recipe, Reference, SftRecipe,
};
pub use report::{Report, SamplePair};
pub use run::{Inputs, Outcome, run};
pub use schedule::{LearningRate, RefreshSchedule};
pub use score::{Scored, backward, sequence_logps, token_logps};
pub use sft::{SftInputs, SftReport, sft};
pub use statistics::{Interval, bootstrap_mean};
pub use trainable::Trainable;
