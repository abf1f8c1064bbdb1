//! `bpo`: online preference optimisation from the command line.
//! Start from [`args`] for what can be typed, [`failure`] for how it can end; one module per verb.
//! Nothing is computed here: flags become calls of the library crates, results become lines.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod annotate;
mod annotator;
mod args;
mod causal;
mod check;
mod compare;
mod completions;
mod data;
mod device;
mod devices;
mod embedded;
mod eval;
mod failure;
mod generate;
mod hub;
mod init;
mod inspect;
mod man;
mod merge;
mod nearest;
mod out;
mod progress;
mod recipe;
mod report;
mod reward;
mod sampler;
mod score;
mod sft;
mod source;
mod train;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use failure::Failure;

fn main() -> ExitCode {
    failure::exit(failure::guarded(|| run(Cli::parse())))
}

fn run(cli: Cli) -> Result<(), Failure> {
    let globals = &cli.globals;
    hub::show_on(globals.progress());
    match &cli.command {
        Command::Init(args) => init::run(args, globals),
        Command::Check(args) => check::run(args, globals),
        Command::Train(args) => train::run(args, globals),
        Command::Sft(args) => sft::run(args, globals),
        Command::Reward(args) => reward::run(args, globals),
        Command::Annotate(args) => annotate::run(args, globals),
        Command::Eval(args) => eval::run(args, globals),
        Command::Compare(args) => compare::run(args, globals),
        Command::Score(args) => score::run(args, globals),
        Command::Generate(args) => generate::run(args, globals),
        Command::Inspect(args) => inspect::run(args, globals),
        Command::Report(args) => report::run(args, globals),
        Command::Merge(args) => merge::run(args, globals),
        Command::Devices(args) => devices::run(args, globals),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}
