//! Every command that help, recipes and documents show is one that the program takes.
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use super::Cli;

/// Words that end a command in a shell.
const ENDS: [&str; 7] = ["|", ">", ">>", "&&", ";", "#", "2>"];

/// The commands of `bpo` in a text: lines that begin with one, or with the `cargo run` of the README; a backslash goes on.
fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let line = |line: &str| -> Option<String> {
        let line = line.trim_start().trim_start_matches("# ").trim_start_matches("#   ").trim_start_matches("$ ");
        let line = match line.strip_prefix("cargo run --release -- ") {
            Some(rest) => format!("bpo {rest}"),
            None => line.to_owned(),
        };
        let is_command = line.starts_with("bpo ") || line.contains("| bpo ");
        (is_command && !line.contains("| `")).then_some(line)
    };
    joined.lines().filter_map(line).flat_map(|line| split(&line)).collect()
}

/// The words of each command of `bpo` in a line of a shell.
fn split(line: &str) -> Vec<Vec<String>> {
    let words = shell_words::split(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let commands = words.split(|word| ENDS.contains(&word.as_str()) || word.ends_with(';'));
    let plain = |words: &[String]| words.iter().filter(|word| *word != "…" && *word != "...").cloned().collect();
    commands.filter(|words| words.first().is_some_and(|word| word == "bpo")).map(plain).collect()
}

fn is_taken(command: &[String], place: &str) {
    if let Err(error) = Cli::try_parse_from(command) {
        assert!(!error.use_stderr(), "{place}: {}\n{error}", command.join(" "));
    }
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn every_verb_has_an_example_in_its_help_and_every_example_parses() {
    let mut whole = Cli::command();
    whole.build();
    for verb in whole.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let (name, help) = (verb.get_name(), verb.get_after_help().unwrap_or_default().to_string());
        let commands = commands(&help);
        assert!(commands.iter().any(|words| words.get(1).is_some_and(|word| word == name)), "{name} has no example");
        commands.iter().for_each(|command| is_taken(command, &format!("bpo {name} --help")));
    }
    commands(super::EXIT_CODES).iter().for_each(|command| is_taken(command, "bpo --help"));
}

#[test]
fn every_command_in_documents_and_recipes_parses() {
    let folders = [(".", "md"), ("docs", "md"), ("docs/results", "md"), ("recipes", "toml"), ("assets/story", "md")];
    let mut count = 0;
    for path in folders.into_iter().flat_map(|(folder, extension)| files(folder, extension)) {
        for command in commands(&std::fs::read_to_string(&path).unwrap()) {
            is_taken(&command, &path.display().to_string());
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} commands were found");
}

#[test]
fn a_command_is_found_in_a_line_of_a_shell() {
    let found =
        commands("  echo 'a' | bpo score --model m --input - > out\n# bpo train x.toml \\\n  --set a=b\nbpo it is");
    assert_eq!(found[0], ["bpo", "score", "--model", "m", "--input", "-"]);
    assert_eq!(found[1], ["bpo", "train", "x.toml", "--set", "a=b"]);
    assert_eq!(found.len(), 3);
}
