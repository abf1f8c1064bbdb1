//! `bpo compare`: methods × seeds at one annotation budget, as a table and as figures.
//! Read [`run`] first; a cell is an ordinary `bpo train` in a process of its own.
mod cell;
mod grid;
mod plot;
mod quantity;
mod results;
mod schedule;
mod statistics;
mod tables;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use bpo_store::RunDir;
use clap::Args;
use serde_json::json;

use self::{
    cell::{Cell, State},
    grid::{Grid, Seeds, plain},
    results::Results,
    schedule::Schedule,
};
use crate::{
    args::Globals,
    embedded,
    failure::{Failure, Kind},
    out::Out,
    report::pictures,
};

/// Most cells that run at a time unless more are asked for.
const JOBS: usize = 8;

/// Compare methods over seeds at one annotation budget: tables and figures
///
/// Every cell of the grid is a `bpo train` run of its own in RUN_DIR/cells. Without a grid file, offline DPO,
/// online DPO and BPO are compared on the story model inside the program. The same command continues an
/// interrupted comparison; finished cells are left alone.
///
/// A grid file (TOML) has `[[method]]` tables, each a `name` and keys of docs/recipe.md; a `[base]` table of
/// keys that all methods share, and `recipe = "FILE"` to take them from; `seeds`, a list or how many; and
/// `[grid]`, lists of values of which every method is run with every combination. All methods must sample
/// the same number of pairs, unless `allow_unequal_budget = true`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpo compare
  bpo compare --plan
  bpo compare --seeds 3 --set beta=0.3 --run-dir runs/beta-0.3
  bpo compare grid.toml --jobs 2 --set model=./SmolLM2-135M-Instruct --set prompts=prompts.jsonl

A grid file:
  recipe = \"my-recipe.toml\"
  seeds = 5
  [grid]
  loss_type = [\"sigmoid\", \"ipo\"]
  [[method]]
  name = \"online DPO\"
  reference = \"initial\"
  collection_phases = \"T\"
  [[method]]
  name = \"BPO, F=2\"
  reference = \"behaviour\"
  collection_phases = 2")]
pub struct CompareArgs {
    /// Grid (TOML) [default: the built-in one]
    #[arg(value_name = "GRID")]
    grid: Option<PathBuf>,
    /// Folder of the comparison [default: runs/NAME, by the grid's name, or runs/compare]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Change a key that all methods share, as in `--set beta=0.3`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Seeds: a list, `1,2,5`, or how many [default: the grid's]
    #[arg(long, value_name = "SEEDS")]
    seeds: Option<Seeds>,
    /// Cells at a time, which share the cores [default: 1; with the built-in model on `flex` one per core, at most 8]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// List the cells and how far they are; run and write nothing
    #[arg(long)]
    plan: bool,
    /// Figures as PNG too, beside the SVG
    #[arg(long)]
    png: bool,
    /// Results as one JSON object, cells of --plan as JSON lines
    #[arg(long)]
    json: bool,
}

impl CompareArgs {
    fn folder(&self) -> PathBuf {
        let name = self.grid.as_deref().and_then(Path::file_stem).unwrap_or("compare".as_ref());
        self.run_dir.clone().unwrap_or_else(|| Path::new("runs").join(name))
    }

    /// The embedded model keeps one core busy, whatever the threads; a larger one has use for all of them, and
    /// for the memory.
    fn jobs(&self, grid: &Grid, globals: &Globals) -> usize {
        let is_small = grid.methods.iter().all(|method| method.recipe.model == embedded::NAME);
        let default = if is_small && globals.device_name() == "flex" { schedule::cores().min(JOBS) } else { 1 };
        self.jobs.map_or(default, NonZeroUsize::get)
    }
}

/// Runs the verb.
pub fn run(args: &CompareArgs, globals: &Globals) -> Result<(), Failure> {
    let grid = Grid::load(args.grid.as_deref(), &args.sets, args.seeds.clone())?;
    let folder = args.folder();
    let cells = cell::cells(&grid, &folder);
    if args.plan {
        return plan(&grid, &cells, args.json);
    }
    let root = RunDir::open(&folder)?;
    let progress = globals.progress();
    progress.say(&format!("comparison: {}, {} cells", folder.display(), cells.len()));
    Schedule::new(&root, args.jobs(&grid, globals), globals.device.as_deref(), progress).complete(&cells)?;
    let results = Results::read(&grid, &cells)?;
    write(&root, &results, args.png)?;
    print(&folder, &results, args.json)
}

/// Writes tables, data and figures.
fn write(root: &RunDir, results: &Results, png: bool) -> Result<(), Failure> {
    let figures = plot::figures(results);
    for figure in &figures {
        root.write(figure.file, figure.svg.as_bytes())?;
    }
    if png {
        pictures(root, figures.iter().map(|figure| (figure.file.to_owned(), figure.svg.clone())))?;
    }
    let json = serde_json::to_string_pretty(results).map_err(|error| Failure::new(Kind::Internal, error))?;
    root.write("results.json", format!("{json}\n").as_bytes())?;
    root.write("results.csv", results.csv().as_bytes())?;
    root.write("results.md", results.markdown(&command(std::env::args().skip(1)), &figures).as_bytes())?;
    Ok(())
}

fn print(folder: &Path, results: &Results, as_json: bool) -> Result<(), Failure> {
    let mut out = Out::new();
    if as_json {
        out.json(&serde_json::to_value(results).map_err(|error| Failure::new(Kind::Internal, error))?)?;
        return out.flush();
    }
    for line in results.lines() {
        out.line(&line)?;
    }
    out.line(&format!("\ntables and figures: {}", folder.join("results.md").display()))?;
    out.flush()
}

fn plan(grid: &Grid, cells: &[Cell<'_>], as_json: bool) -> Result<(), Failure> {
    let mut out = Out::new();
    if !as_json {
        for method in &grid.methods {
            let settings = method.settings.iter().map(|(key, value)| format!("{key} = {}", plain(value)));
            out.line(&format!("{}: {}", method.name, settings.collect::<Vec<_>>().join(", ")))?;
        }
        out.line("")?;
    }
    for cell in cells {
        let (folder, state) = (cell.folder.display().to_string(), state(cell));
        if as_json {
            let method = &cell.method.name;
            out.json(&json!({"method": method, "seed": cell.seed, "state": state, "folder": folder}))?;
        } else {
            out.line(&format!("{state:<10}{folder}"))?;
        }
    }
    out.flush()
}

fn state(cell: &Cell<'_>) -> &'static str {
    match cell.glance() {
        State::New => "new",
        State::Begun | State::Elsewhere => "begun",
        State::Finished => "finished",
    }
}

/// The command as a shell would read it.
pub fn command(args: impl Iterator<Item = String>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = |arg: String| match !arg.is_empty() && arg.chars().all(is_plain) {
        true => arg,
        false => format!("'{}'", arg.replace('\'', r"'\''")),
    };
    std::iter::once("bpo".to_owned()).chain(args.map(quoted)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let args = ["compare", "--set", "beta=0.3", "my grid.toml", "it's", ""].map(str::to_owned);
        assert_eq!(command(args.into_iter()), r"bpo compare --set beta=0.3 'my grid.toml' 'it'\''s' ''");
    }
}
