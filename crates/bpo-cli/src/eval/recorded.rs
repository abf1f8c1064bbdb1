//! An evaluation that can be killed: what was sampled and what was answered is in a journal, and comes from there.
use bpo_annotate::{Annotator, Comparison, Error, Item, Judgement, Statistics};
use bpo_store::Journal;
use serde::{Serialize, de::DeserializeOwned};

use crate::progress::Progress;

/// Questions whose answers are recorded together: what is lost of a paid judge's work at worst.
const QUESTIONS: usize = 32;

/// A journal, or none.
pub struct Records(Option<Journal>);

impl Records {
    /// In `journal`, if there is one.
    pub fn new(journal: Option<Journal>) -> Self {
        Self(journal)
    }

    /// What is recorded, or else what `compute` makes, which is recorded.
    pub fn once<T, E>(&mut self, step: u64, kind: &str, compute: impl FnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<bpo_store::Error>,
    {
        match &mut self.0 {
            Some(journal) => journal.once(step, kind, compute),
            None => compute(),
        }
    }
}

/// An annotator that is asked nothing twice: answers are recorded under what was asked.
pub struct Recorded<'a> {
    /// Who answers.
    pub annotator: &'a mut dyn Annotator,
    /// Where answers are.
    pub records: &'a mut Records,
    /// Told how many questions are answered.
    pub progress: &'a Progress,
}

/// What goes wrong with an answer: its annotator, or its record.
enum Failed {
    Annotator(Error),
    Record(bpo_store::Error),
}

impl From<bpo_store::Error> for Failed {
    fn from(error: bpo_store::Error) -> Self {
        Self::Record(error)
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Annotator(error) => error,
            Failed::Record(error) => Self::Cache { path: "journal.bin".into(), source: std::io::Error::other(error) },
        }
    }
}

/// A name for what is asked.
fn kind(form: &str, asked: &impl Serialize) -> Result<String, Failed> {
    let text = serde_json::to_vec(asked).map_err(|error| Error::Config(error.to_string()));
    let hash = blake3::hash(&text.map_err(Failed::Annotator)?).to_hex();
    Ok(format!("{form}/{hash}"))
}

impl Recorded<'_> {
    fn compared(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Failed> {
        let (annotator, kind) = (&mut *self.annotator, kind("compared", &batch)?);
        self.records.once(0, &kind, || annotator.compare(batch).map_err(Failed::Annotator))
    }

    /// A score that is no number is none.
    fn scored(&mut self, items: &[Item]) -> Result<Vec<f64>, Failed> {
        let (annotator, kind) = (&mut *self.annotator, kind("scored", &items)?);
        let scores: Vec<Option<f64>> = self.records.once(0, &kind, || {
            let scores = annotator.score(items).unwrap_or_else(|| Ok(vec![f64::NAN; items.len()]));
            let finite = |score: f64| score.is_finite().then_some(score);
            Ok::<_, Failed>(scores.map_err(Failed::Annotator)?.into_iter().map(finite).collect())
        })?;
        Ok(scores.into_iter().map(|score| score.unwrap_or(f64::NAN)).collect())
    }
}

impl Annotator for Recorded<'_> {
    fn name(&self) -> String {
        self.annotator.name()
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        let mut judgements = Vec::with_capacity(batch.len());
        let mut stage = self.progress.stage("judge", batch.len(), "questions");
        for batch in batch.chunks(QUESTIONS) {
            judgements.extend(self.compared(batch)?);
            stage.set(judgements.len());
        }
        stage.finish();
        Ok(judgements)
    }

    fn score(&mut self, items: &[Item]) -> Option<Result<Vec<f64>, Error>> {
        // Asked nothing, it says whether it gives scores at all.
        if let Err(error) = self.annotator.score(&[])? {
            return Some(Err(error));
        }
        let mut scores = Vec::with_capacity(items.len());
        let mut stage = self.progress.stage("score", items.len(), "responses");
        for items in items.chunks(QUESTIONS) {
            match self.scored(items) {
                Ok(some) => scores.extend(some),
                Err(failed) => return Some(Err(failed.into())),
            }
            stage.set(scores.len());
        }
        stage.finish();
        Some(Ok(scores))
    }

    fn statistics(&self) -> Statistics {
        self.annotator.statistics()
    }
}
