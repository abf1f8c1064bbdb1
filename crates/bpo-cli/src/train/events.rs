//! TensorBoard events of a run, step by step, in `RUN_DIR/tensorboard`.
use std::path::{Path, PathBuf};

use bpo_report::{
    Error,
    tensorboard::{EventWriter, verbatim},
};
use bpo_train::{CurvePoint, ShownPair};
use serde_json::{Map, Value, json};

/// Writes events until a write fails: a run does not end for want of a picture.
pub struct Events {
    folder: PathBuf,
    writer: Option<EventWriter>,
    has_failed: bool,
    phase: Option<u64>,
    /// The first pair of the step that is being done.
    pair: Option<String>,
}

impl Events {
    /// Of the run in `dir`. No file is begun before there is something to write.
    pub fn of(dir: &Path) -> Self {
        let folder = dir.join("tensorboard");
        Self { folder, writer: None, has_failed: false, phase: None, pair: None }
    }

    /// A step is about to train on this pair among others.
    pub fn pair(&mut self, pair: ShownPair<'_>) {
        let ShownPair { prompt, chosen, rejected, gap } = pair;
        let gap = gap.map_or_else(String::new, |gap| format!(" by {gap:.3}"));
        let [prompt, chosen, rejected] = [prompt, chosen, rejected].map(verbatim);
        self.pair = Some(format!("prompt\n\n{prompt}\n\nchosen{gap}\n\n{chosen}\n\nrejected\n\n{rejected}\n"));
    }

    /// A step is done. Of each phase, the first pair is written too.
    ///
    /// # Errors
    /// The first time that a write fails; from then on nothing is written.
    pub fn step(&mut self, step: u64, metrics: &Map<String, Value>) -> Result<(), Error> {
        let phase = metrics.get("phase").and_then(Value::as_u64);
        let pair = self.pair.take().filter(|_| self.phase != phase);
        self.phase = phase;
        self.write(step, |writer, time| {
            writer.scalars(step, time, metrics)?;
            pair.map_or(Ok(()), |pair| writer.text(step, time, "pairs/first_of_phase", &pair))
        })
    }

    /// The policy was evaluated. The record of an evaluation that another process made is written only where this one
    /// has done the steps before it again: else it is in that process's file.
    ///
    /// # Errors
    /// As [`Events::step`].
    pub fn evaluation(&mut self, point: &CurvePoint, is_new: bool) -> Result<(), Error> {
        if !is_new && self.writer.is_none() {
            return Ok(());
        }
        let mean = |interval: Option<bpo_train::Interval>| interval.map(|interval| interval.mean);
        let values = [
            ("eval/score", mean(point.score)),
            ("eval/reference_win_rate", mean(point.reference_win_rate)),
            ("eval/reference_win_rate_length_controlled", mean(point.reference_win_rate_length_controlled)),
            ("eval/win_rate", mean(point.win_rate)),
            ("eval/win_rate_length_controlled", mean(point.win_rate_length_controlled)),
            ("eval/kl", point.kl),
            ("eval/length", Some(point.length)),
            ("eval/distinct", Some(point.distinct)),
        ];
        let known = values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?))));
        let metrics: Map<String, Value> = known.collect();
        self.write(point.step + 1, |writer, time| writer.scalars(point.step, time, &metrics))
    }

    /// Writes through the writer of this process, which is begun with `step` if need be.
    fn write(
        &mut self,
        step: u64,
        write: impl FnOnce(&mut EventWriter, f64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.has_failed {
            return Ok(());
        }
        let time = now();
        let writer = match &mut self.writer {
            Some(writer) => Ok(writer),
            none => EventWriter::create(&self.folder, step, time).map(|writer| none.insert(writer)),
        };
        let written = writer.and_then(|writer| write(writer, time));
        self.has_failed = written.is_err();
        written
    }
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "TensorBoard's time axis; nothing of a run is decided by it")]
fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
