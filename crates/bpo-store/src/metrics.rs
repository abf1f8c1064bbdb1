//! `metrics.jsonl`: one JSON object per line, each with its `step`.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::Error;
use crate::io::{GrowingFile, Io, refuse_strange};
use crate::lock::Lock;

/// The name of the metrics' file.
pub(crate) const FILE: &str = "metrics.jsonl";

/// The metrics of a run, line by line, each durable when it is written.
#[derive(Debug)]
pub struct MetricsLog {
    file: GrowingFile,
    cut: usize,
    _lock: Arc<Lock>,
}

/// What every line must have.
#[derive(Deserialize)]
struct Stamp {
    step: u64,
}

impl MetricsLog {
    /// Opens the metrics of a run that goes on after step `keep` (`None`: that starts anew,
    /// with no line kept). Lines of later steps and a torn last line are cut, so that the file
    /// of a resumed run equals that of an uninterrupted one.
    pub(crate) fn open(io: &Io, run: &Path, keep: Option<u64>, lock: &Arc<Lock>) -> Result<Self, Error> {
        let path = run.join(FILE);
        refuse_strange(&path)?;
        let bytes = io.read_if_any(&path)?.unwrap_or_default();
        let (kept, cut) = kept_lines(&path, &bytes, keep)?;
        if kept.len() != bytes.len() {
            io.write_atomic(&path, &kept)?;
        }
        Ok(Self { file: GrowingFile::open(io, &path)?, cut, _lock: Arc::clone(lock) })
    }

    /// How many lines were cut when the metrics were opened.
    pub fn cut_lines(&self) -> usize {
        self.cut
    }

    /// Adds one record, an object with a whole number `step`.
    ///
    /// # Errors
    /// [`Error::MetricsRecord`] for anything else, and [`Error::Io`].
    pub fn append(&mut self, record: &Value) -> Result<(), Error> {
        if !record.get("step").is_some_and(Value::is_u64) {
            return Err(Error::MetricsRecord { path: self.file.path().to_owned() });
        }
        let line = format!("{record}\n");
        self.file.append(line.as_bytes()).map(|_| ())
    }
}

/// The lines up to a step, and how many others there were.
fn kept_lines(path: &Path, bytes: &[u8], keep: Option<u64>) -> Result<(Vec<u8>, usize), Error> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut cut = 0;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for (at, line) in lines.iter().enumerate() {
        match stamp(line) {
            Some(stamp) if keep.is_some_and(|keep| stamp.step <= keep) => {
                kept.extend_from_slice(line);
            }
            // The last line may be torn.
            None if at + 1 < lines.len() => {
                return Err(Error::MetricsDamaged {
                    path: path.to_owned(),
                    line: at + 1,
                    reason: "not a JSON object with a whole number `step`",
                });
            }
            _ => cut += 1,
        }
    }
    Ok((kept, cut))
}

fn stamp(line: &[u8]) -> Option<Stamp> {
    serde_json::from_slice(line.strip_suffix(b"\n")?).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn run() -> (TempDir, Arc<Lock>) {
        let folder = crate::scratch::folder();
        let lock = Arc::new(Lock::take(&Io::real(), folder.path()).unwrap());
        (folder, lock)
    }

    fn log(run: &(TempDir, Arc<Lock>), keep: Option<u64>) -> Result<MetricsLog, Error> {
        MetricsLog::open(&Io::real(), run.0.path(), keep, &run.1)
    }

    fn append(log: &mut MetricsLog, steps: std::ops::RangeInclusive<u64>) {
        for step in steps {
            log.append(&json!({"step": step, "loss": 1.0 / step as f64})).unwrap();
        }
    }

    #[test]
    fn a_resumed_file_equals_an_uninterrupted_one() {
        let run = run();
        let path = run.0.path().join(FILE);
        append(&mut log(&run, None).unwrap(), 1..=9);
        let uninterrupted = fs::read(&path).unwrap();
        for length in (0..=uninterrupted.len()).step_by(5) {
            let lines = uninterrupted[..length].iter().filter(|byte| **byte == b'\n').count();
            for keep in [lines / 2, lines] {
                let keep = keep as u64;
                fs::write(&path, &uninterrupted[..length]).unwrap();
                append(&mut log(&run, Some(keep)).unwrap(), keep + 1..=9);
                assert_eq!(fs::read(&path).unwrap(), uninterrupted);
            }
        }
    }

    #[test]
    fn without_a_step_to_keep_the_file_starts_anew() {
        let run = run();
        append(&mut log(&run, None).unwrap(), 1..=3);
        let log = log(&run, None).unwrap();
        assert_eq!(log.cut_lines(), 3);
        assert_eq!(fs::read(run.0.path().join(FILE)).unwrap(), b"");
    }

    #[test]
    fn a_damaged_line_is_named() {
        let run = run();
        let path = run.0.path().join(FILE);
        fs::write(&path, "{\"step\":1}\noops\n{\"step\":3}\n").unwrap();
        match log(&run, Some(3)) {
            Err(Error::MetricsDamaged { line: 2, .. }) => {}
            other => panic!("{other:?}"),
        }
        fs::write(&path, "{\"step\":1}\noops\n").unwrap();
        assert_eq!(log(&run, Some(3)).unwrap().cut_lines(), 1);
        assert_eq!(fs::read(&path).unwrap(), b"{\"step\":1}\n");
    }

    #[test]
    fn a_record_without_a_step_is_refused() {
        let run = run();
        let mut log = log(&run, None).unwrap();
        for record in [json!({"loss": 1}), json!(3), json!({"step": -1}), json!({"step": 1.5})] {
            assert!(log.append(&record).is_err());
        }
    }
}
