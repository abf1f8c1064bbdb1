//! A program that may be killed at any moment: what it was told is never asked again, what it computed is whole or absent.
//!
//!     cargo run --release -p bpo-store --example asked_once -- RUN_DIR
//!
//! Run it twice with the same folder: the second time nothing is asked. Without a folder a temporary one is used twice.
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use std::path::{Path, PathBuf};

use bpo_store::{Error, RunDir};

const STEPS: u64 = 3;

fn main() -> Result<(), Error> {
    match std::env::args().nth(1) {
        Some(dir) => println!("{} questions asked", run(Path::new(&dir))?),
        None => {
            let dir: PathBuf = std::env::temp_dir().join(format!("asked-once-{}", std::process::id()));
            let asked = [run(&dir)?, run(&dir)?];
            println!("{} questions asked, then {}", asked[0], asked[1]);
            assert_eq!(asked, [STEPS, 0]);
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
    Ok(())
}

/// Goes on from the newest checkpoint; how many questions were new.
fn run(path: &Path) -> Result<u64, Error> {
    let run = RunDir::open(path)?; // a second process is refused from here on
    let mut checkpoints = run.checkpoints()?;
    let latest = checkpoints.latest()?; // verified: lengths and hashes of every file
    let first = latest.as_ref().map_or(0, |found| found.step);
    let mut metrics = run.metrics(latest.map(|found| found.step))?;
    let mut journal = run.journal()?;
    let mut asked = 0;
    for step in first..STEPS {
        let verdict: String = journal.once(step, "judged", || {
            asked += 1; // a judge that costs money would be asked here
            Ok::<_, Error>(if step % 2 == 0 { "first".to_owned() } else { "second".to_owned() })
        })?;
        metrics.append(&serde_json::json!({"step": step + 1, "verdict": verdict}))?;
        checkpoints.save(step + 1, &[("state.json", format!("{{\"last\":\"{verdict}\"}}").as_bytes())])?;
    }
    Ok(asked)
}
