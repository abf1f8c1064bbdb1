//! What can be typed. Meaning is given to it by the module of each verb.
use clap::{Args, Parser, Subcommand};

use crate::{
    annotate::AnnotateArgs, check::CheckArgs, compare::CompareArgs, completions::CompletionsArgs, device,
    devices::DevicesArgs, eval::EvalArgs, failure::Failure, generate::GenerateArgs, init::InitArgs,
    inspect::InspectArgs, man::ManArgs, merge::MergeArgs, progress::Progress, report::ReportArgs, reward::RewardArgs,
    score::ScoreArgs, sft::SftArgs, train::TrainArgs,
};

/// Exit codes, for `--help`.
const EXIT_CODES: &str = "\
Examples:
  bpo train
  bpo init --model ./SmolLM2-135M-Instruct --prompts prompts.jsonl
  bpo check bpo.toml

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
    /// Where to compute: flex, tch, tch:cuda, tch:mps, cuda, rocm, wgpu, vulkan, metal, cpu; cuda:1 is the second card;
    /// `bpo devices` says which of them work here
    #[arg(long, global = true, env = "BPO_DEVICE", value_name = "DEVICE")]
    pub device: Option<String>,
    /// No progress on standard error
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

impl Globals {
    /// The device that was asked for, or this build's first.
    pub fn device(&self) -> Result<burn::tensor::Device, Failure> {
        Ok(device::open(self.asked())?)
    }

    /// The name of [`Globals::device`].
    pub fn device_name(&self) -> &str {
        device::name(self.asked())
    }

    /// An empty name, as of an empty `BPO_DEVICE`, is none.
    fn asked(&self) -> Option<&str> {
        self.device.as_deref().filter(|name| !name.is_empty())
    }

    /// Progress as loud as was asked for.
    pub fn progress(&self) -> Progress {
        Progress::new(self.quiet)
    }
}

/// One verb per job. Its words are those of its arguments, which words here would shadow in `--help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(InitArgs),
    Check(CheckArgs),
    Train(TrainArgs),
    Sft(SftArgs),
    Reward(RewardArgs),
    Annotate(AnnotateArgs),
    Eval(Box<EvalArgs>),
    Compare(CompareArgs),
    Score(ScoreArgs),
    Generate(GenerateArgs),
    Inspect(InspectArgs),
    Report(ReportArgs),
    Merge(MergeArgs),
    Devices(DevicesArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

#[cfg(test)]
mod examples;
