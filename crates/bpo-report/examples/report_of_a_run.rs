//! The page of a run's folder, from whatever wrote its `metrics.jsonl`.
//!
//!     cargo run --release -p bpo-report --example report_of_a_run -- RUN_DIR PAGE.html
//!
//! Without arguments, a made-up run of thirty steps, whose page is left in the temporary folder.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "an example tells what it does")]

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use bpo_report::{Record, Texts, figures, page};

/// Without a tokenizer, responses are shown as they were recorded.
struct AsRecorded;

impl Texts for AsRecorded {
    fn prompt(&self, _id: usize) -> Option<String> {
        None
    }

    fn decode(&self, _tokens: &[u32]) -> Option<String> {
        None
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (run, out) = match (std::env::args().nth(1), std::env::args().nth(2)) {
        (Some(run), Some(out)) => (PathBuf::from(run), PathBuf::from(out)),
        _ => made_up()?,
    };
    let record = Record::read(&run, &AsRecorded)?;
    let html = page(&record, &["bpo train".to_owned()]);
    let names: Vec<String> = figures(&record).into_iter().map(|figure| figure.name.to_string()).collect();
    std::fs::write(&out, &html)?;
    println!("{}: {} KiB, figures: {}", out.display(), html.len() / 1024, names.join(", "));
    assert!(html.contains("<svg") && !names.is_empty());
    Ok(())
}

/// A folder with the two files that a page needs.
fn made_up() -> Result<(PathBuf, PathBuf), Box<dyn Error>> {
    let run: PathBuf = std::env::temp_dir().join(format!("report-of-a-run-{}", std::process::id()));
    std::fs::create_dir_all(&run)?;
    std::fs::write(run.join("recipe.toml"), "loss_type = \"sigmoid\"\nbeta = 0.1\n")?;
    let line = |step: u32| {
        let done = f64::from(step) / 30.0;
        let (loss, accuracy, phase) = (0.69 - 0.3 * done, 0.5 + 0.4 * done, step / 15);
        format!("{{\"step\":{step},\"phase\":{phase},\"loss\":{loss},\"rewards/accuracies\":{accuracy}}}\n")
    };
    std::fs::write(run.join("metrics.jsonl"), (1..=30).map(line).collect::<String>())?;
    let page = Path::new(&run).join("page.html");
    Ok((run, page))
}
