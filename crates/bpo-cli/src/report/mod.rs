//! `bpo report`: a run's page and figures; the runs themselves end with the same.
mod sources;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use bpo_report::{Figure, Painter, Record, figures, page};
use bpo_store::RunDir;
use clap::Args;

use self::sources::Sources;
use crate::{
    args::Globals,
    compare::command,
    failure::{Failure, Kind, io_failure, warn},
    out::Out,
};

/// The page's place in a run.
const PAGE: &str = "report.html";
/// Pixels of a PNG to each of the drawing's: sharp on slides and in print.
const PNG_SCALE: f32 = 2.0;

/// Write a run's report: curves, phases, scores, sample pairs, recipe, on one page
///
/// Runs write it at their end. Of an interrupted run it shows what there is; of one that is in progress it needs
/// --output, as the folder belongs to the run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpo report runs/story
  bpo report runs/story --png
  bpo report runs/story --output story.html")]
pub struct ReportArgs {
    /// Folder of the run
    #[arg(value_name = "RUN_DIR")]
    run_dir: PathBuf,
    /// Write the page here, and no figures [default: RUN_DIR/report.html, with figures in RUN_DIR/figures]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Figures as PNG too, beside the SVG
    #[arg(long, conflicts_with = "output")]
    png: bool,
}

/// Runs the verb.
pub fn run(args: &ReportArgs, _: &Globals) -> Result<(), Failure> {
    let drawn = Drawn::of(&args.run_dir)?;
    let mut out = Out::new();
    match &args.output {
        Some(path) => {
            let written = fs::File::create(path).and_then(|mut file| file.write_all(drawn.page.as_bytes()));
            written.map_err(|error| io_failure(path, &error))?;
            out.line(&format!("report: {}", path.display()))?;
        }
        None => {
            let held = |failure: Failure| failure.context("a run in progress keeps its folder: say --output FILE");
            let dir = RunDir::open(&args.run_dir).map_err(|error| match error {
                bpo_store::Error::Locked { .. } => held(error.into()),
                other => other.into(),
            })?;
            drawn.write(&dir)?;
            if args.png {
                let files = drawn.figures.iter().map(|figure| (file_name(figure), figure.panel.file()));
                pictures(&dir, files)?;
            }
            told(&dir, &mut out)?;
        }
    }
    out.flush()
}

/// Writes the report of a run that has just ended. What goes wrong with it is a warning: the run is done.
pub fn at_the_end(dir: &RunDir, out: &mut Out) -> Result<(), Failure> {
    match Drawn::of(dir.path()).and_then(|drawn| drawn.write(dir)) {
        Ok(()) => told(dir, out),
        Err(failure) => {
            warn(&format!("no report was written: {}", failure.text()));
            Ok(())
        }
    }
}

/// What is said of a run that was finished before; one that was killed while its report was written gets it now.
pub fn of_the_finished(dir: &RunDir, mut out: Out) -> Result<(), Failure> {
    out.line(&format!("{} is finished: nothing to do. Another --run-dir starts anew.", dir.path().display()))?;
    if !dir.path().join(PAGE).exists() {
        at_the_end(dir, &mut out)?;
    }
    out.flush()
}

fn told(dir: &RunDir, out: &mut Out) -> Result<(), Failure> {
    out.line(&format!("report: {}", dir.path().join(PAGE).display()))
}

/// Everything about a run that is drawn.
struct Drawn {
    page: String,
    figures: Vec<Figure>,
}

impl Drawn {
    /// Reads and draws the run in `dir`.
    fn of(dir: &Path) -> Result<Self, Failure> {
        let record = Record::read(dir, &Sources::of(dir))?;
        Ok(Self { page: page(&record, &how(dir, &record)), figures: figures(&record) })
    }

    fn write(&self, dir: &RunDir) -> Result<(), Failure> {
        for figure in &self.figures {
            dir.write(&file_name(figure), figure.panel.file().as_bytes())?;
        }
        dir.write(PAGE, self.page.as_bytes())?;
        Ok(())
    }
}

fn file_name(figure: &Figure) -> String {
    format!("figures/{}.svg", figure.name)
}

/// Writes SVG files, each a name and its drawing, as PNG beside them.
pub fn pictures(dir: &RunDir, files: impl Iterator<Item = (String, String)>) -> Result<(), Failure> {
    let painter = Painter::default();
    for (name, svg) in files {
        let name = Path::new(&name).with_extension("png");
        dir.write(&name.to_string_lossy(), &painter.png(&svg, PNG_SCALE)?)?;
    }
    Ok(())
}

/// The commands that make the run again.
fn how(dir: &Path, record: &Record) -> Vec<String> {
    let is_set = |key: &str| record.setting(key).is_some();
    let verb = match (is_set("tuning"), is_set("data")) {
        (true, _) => &["reward", "train"][..],
        (_, true) => &["sft"],
        _ => &["train"],
    };
    let recipe = dir.join("recipe.toml").display().to_string();
    let device = record.inputs.get("device").map(|device| ["--device".to_owned(), device.clone()]);
    let words = verb.iter().map(ToString::to_string).chain([recipe, "--run-dir".to_owned(), "runs/again".to_owned()]);
    vec![format!("# bpo {}", env!("CARGO_PKG_VERSION")), command(words.chain(device.into_iter().flatten()))]
}

impl From<bpo_report::Error> for Failure {
    fn from(error: bpo_report::Error) -> Self {
        match error {
            bpo_report::Error::Store(error) => error.into(),
            other => Self::new(Kind::Run, other),
        }
    }
}
