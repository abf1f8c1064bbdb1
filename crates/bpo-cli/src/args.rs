//! What can be typed. Meaning is given to it by the module of each verb.
use clap::{Args, Parser, Subcommand};

use crate::{
    device, eval::EvalArgs, failure::Failure, generate::GenerateArgs, inspect::InspectArgs, merge::MergeArgs,
    progress::Progress, score::ScoreArgs, sft::SftArgs, train::TrainArgs,
};

/// Exit codes, for `--help`.
const EXIT_CODES: &str = "\
Exit codes: 0 done, 2 usage or configuration, 3 bad input, 4 run directory, 5 annotator, 6 numerics, \
70 internal error, 130 interrupted";

/// Online preference optimisation of language models (BPO, DPO, IPO, SLiC).
#[derive(Debug, Parser)]
#[command(name = "bpo", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// Flags of every verb.
    #[command(flatten)]
    pub globals: Globals,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every verb.
#[derive(Debug, Args)]
pub struct Globals {
    /// Where to compute: flex, tch, tch:cuda[:N], tch:mps, cuda[:N], rocm[:N], wgpu, vulkan, metal, cpu
    #[arg(long, global = true, env = "BPO_DEVICE", value_name = "DEVICE")]
    pub device: Option<String>,
    /// No progress on standard error
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

impl Globals {
    /// The device that was asked for, or this build's first.
    pub fn device(&self) -> Result<burn::tensor::Device, Failure> {
        device::open(self.device.as_deref())
    }

    /// The name of [`Globals::device`].
    pub fn device_name(&self) -> &str {
        device::name(self.device.as_deref())
    }

    /// Progress as loud as was asked for.
    pub fn progress(&self) -> Progress {
        Progress::new(self.quiet)
    }
}

/// One verb per job.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Online preference optimisation: sample pairs, judge, step, refresh
    Train(TrainArgs),
    /// Supervised fine-tuning, of a model or from random weights
    Sft(SftArgs),
    /// How often a policy wins, against reference texts or another policy
    Eval(EvalArgs),
    /// Log-probs of responses under a model, or scores by a reward model
    Score(ScoreArgs),
    /// Sample completions of prompts
    Generate(GenerateArgs),
    /// Say what a model, an adapter, a data file or a run is
    Inspect(InspectArgs),
    /// Fold an adapter into its model and write a Hugging Face directory
    Merge(MergeArgs),
}
