//! `bpo man`: the pages of `--help` for `man`.
use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use crate::{
    args::Cli,
    failure::{Failure, Kind},
    out::Out,
};

/// Write manual pages, one for each verb
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpo man ~/.local/share/man/man1
  bpo man ./man && man -l ./man/bpo-train.1")]
pub struct ManArgs {
    /// Folder for the pages; it is made if need be
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Writes `bpo.1`, `bpo-VERB.1`, and for a verb of a verb `bpo-reward-train.1`.
pub fn run(args: &ManArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::message(Kind::Run, format!("{}: {error}", args.dir.display()));
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    let mut whole = Cli::command();
    whole.build();
    let mut out = Out::new();
    pages(&whole, "bpo", &args.dir, &mut out)?;
    out.flush()
}

/// The page of a command, and those of its verbs.
fn pages(command: &Command, name: &str, dir: &Path, out: &mut Out) -> Result<(), Failure> {
    page(command, name, dir, out)?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        pages(verb, &format!("{name}-{}", verb.get_name()), dir, out)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str, dir: &Path, out: &mut Out) -> Result<(), Failure> {
    let path = dir.join(format!("{name}.1"));
    let failed = |error: std::io::Error| Failure::message(Kind::Run, format!("{}: {error}", path.display()));
    let text = rendered(command, name).map_err(failed)?;
    std::fs::File::create(&path).and_then(|mut file| file.write_all(&text)).map_err(failed)?;
    out.line(&path.display().to_string())
}

/// A page named as it is asked for, `bpo-train`; what stands under `--help` keeps its lines.
fn rendered(command: &Command, name: &str) -> std::io::Result<Vec<u8>> {
    let source = format!("bpo {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone().display_name(name)).source(source).manual("bpo");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(notes) = command.get_after_help() {
        let mut section = Roff::new();
        section.control("SH", ["EXAMPLES AND NOTES"]).control("nf", []);
        for line in notes.to_string().lines() {
            section.text([roman(line)]);
        }
        section.control("fi", []).to_writer(&mut text)?;
    }
    Ok(text)
}
