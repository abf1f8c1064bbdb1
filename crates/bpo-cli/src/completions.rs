//! `bpo completions`: what a shell needs to complete verbs, flags and files.
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{args::Cli, failure::Failure, out::Out};

/// Print completions for a shell: bash, zsh, fish, elvish or powershell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpo completions bash > ~/.local/share/bash-completion/completions/bpo
  bpo completions zsh > ~/.zfunc/_bpo
  bpo completions fish > ~/.config/fish/completions/bpo.fish

In zsh the folder has to be in fpath before compinit runs: fpath+=~/.zfunc.")]
pub struct CompletionsArgs {
    /// Whose completions
    shell: Shell,
}

/// Writes them to standard output.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "bpo", &mut script);
    let mut out = Out::new();
    out.line(String::from_utf8_lossy(&script).trim_end())?;
    out.flush()
}
