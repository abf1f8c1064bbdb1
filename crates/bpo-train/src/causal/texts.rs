//! From rows to the texts of a run: split, tokenised, fitted, scaled.
use bpo_data::{Counts, Group, OutcomeRow, Prompt, ReferenceRow, Rows, Tokenizer, fit_pair};
use bpo_store::{RowFile, RunDir};
use serde::{Deserialize, Serialize};

use crate::{
    CausalRecipe, Error, EvalPrompt, Observer, Prepared, TrainPrompt,
    dataset::{AnyRows, prepare_any},
    eval_prompts,
    rows_at_work::{rows_in, worked},
};

/// A logged text as the run works on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Text {
    /// What it continues: BOS alone for a text without a prompt. The id is the row's index.
    pub prompt: TrainPrompt,
    /// Its tokens, EOS included.
    pub completion: Vec<u32>,
    /// As annotators read it.
    pub written: String,
    /// As observed.
    pub outcome: f64,
    /// What the row expects of it.
    pub predicted: Option<f64>,
    /// Σ log P^R by the row.
    pub logging_logp: Option<f64>,
}

impl Text {
    pub fn group(&self) -> Group<'_> {
        Group { prompt: &self.prompt.ids, completions: vec![&self.completion] }
    }
}

/// What a run trains and evaluates on.
#[derive(Debug)]
pub(crate) struct Texts {
    pub train: RowFile<Text>,
    pub eval: Vec<EvalPrompt>,
    pub notes: Vec<String>,
}

/// Splits off what is evaluated on, as [`prepare_any`] does, and tokenises the rest. Where no row has a prompt, the
/// policy is evaluated on texts from BOS alone. The rows are read three times, and none of them is held: what is trained on
/// lies in `dir`, or in the system's folder for temporary files.
pub(crate) fn texts(
    recipe: &CausalRecipe,
    tokenizer: &Tokenizer,
    context: usize,
    rows: &Rows<OutcomeRow>,
    references: Option<&Rows<ReferenceRow>>,
    (dir, observer): (Option<&RunDir>, &mut dyn Observer),
) -> Result<Texts, Error> {
    let shared = recipe.as_recipe();
    let limits = shared.limits(context)?;
    let (with_prompt, without) = prompts_of(rows)?;
    let Prepared { train: prompts, mut eval, notes } = match (with_prompt, references) {
        (true, _) => {
            prepare_any(&shared, tokenizer, context, AnyRows::Outcomes(rows), references, rows_in(dir), observer)?
        }
        (false, None) => Prepared { train: rows_in(dir), eval: Vec::new(), notes: Vec::new() },
        (false, Some(references)) => {
            let (size, chat) = (shared.eval_size, shared.apply_chat_template);
            let (eval, _) = eval_prompts((references, "references"), tokenizer, &limits, size, chat)?;
            Prepared { train: rows_in(dir), eval, notes: Vec::new() }
        }
    };
    let alone = without.map(|row| alone(tokenizer, row)).transpose()?;
    if let Some(ids) = alone.as_ref().filter(|_| eval.is_empty()) {
        let prompt = |place| TrainPrompt { id: place, text: String::new(), ids: ids.clone(), given: Vec::new() };
        eval = (0..recipe.eval_size).map(|place| EvalPrompt { prompt: prompt(place), reference: None }).collect();
    }
    let (mut counts, mut train, mut prompts) = (Counts::default(), rows_in(dir), prompts.iter().peekable());
    let mut ids = 0..;
    let work = |(_, row): &(usize, OutcomeRow)| tokenizer.encode_completion(&row.completion, true);
    let make = |row| Ok(Some((ids.next().unwrap_or_default(), row)));
    worked(rows, observer, make, work, |(id, row): (usize, OutcomeRow), completion| {
        let is_next = |prompt: &Result<TrainPrompt, _>| prompt.as_ref().map_or(true, |prompt| prompt.id == id);
        let prompt = match (&row.prompt, &alone) {
            (None, Some(ids)) => TrainPrompt { id, text: String::new(), ids: ids.clone(), given: Vec::new() },
            _ => match prompts.next_if(is_next) {
                Some(prompt) => prompt?,
                None => return Ok(()),
            },
        };
        let completion = completion?;
        let has_bos = tokenizer.bos_id().is_some_and(|bos| prompt.ids.first() == Some(&bos));
        let before = (prompt.ids.len(), completion.len());
        let Some((ids, completion)) = counts.keep(fit_pair(prompt.ids, completion, &limits, has_bos)?) else {
            return Ok(());
        };
        // A text that was cut is another text.
        let logging_logp = row.logging_logp.filter(|_| before == (ids.len(), completion.len()));
        train.push(&Text {
            prompt: TrainPrompt { ids, ..prompt },
            completion,
            written: row.completion,
            outcome: row.outcome,
            predicted: row.predicted_outcome,
            logging_logp,
        })?;
        Ok(())
    })?;
    if train.is_empty() {
        return Err(Error::Data(format!("no text is left to train on: {counts}")));
    }
    let mut texts = Texts { train, eval, notes };
    if counts.total_dropped() + counts.truncated > 0 {
        texts.notes.push(format!("texts: {counts}"));
    }
    Ok(texts)
}

/// Whether any row has a prompt, and the line of the first that has none.
fn prompts_of(rows: &Rows<OutcomeRow>) -> Result<(bool, Option<usize>), Error> {
    let (mut with_prompt, mut without) = (false, None);
    rows.each(|row| -> Result<(), Error> {
        match row.prompt {
            Some(_) => with_prompt = true,
            None => drop(without.get_or_insert(row.line)),
        }
        Ok(())
    })?;
    Ok((with_prompt, without))
}

/// The ids of the prompt of a row without one; `line` is that of the first.
fn alone(tokenizer: &Tokenizer, line: usize) -> Result<Vec<u32>, Error> {
    let mut ids = tokenizer.encode_prompt(&Prompt::Text(String::new()))?;
    if ids.is_empty() {
        ids.extend(tokenizer.bos_id());
    }
    match ids.is_empty() {
        true => Err(Error::Data(format!("outcomes, line {line}: a text without a prompt needs a tokenizer with BOS"))),
        false => Ok(ids),
    }
}

/// How outcomes become what losses weigh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub mean: f64,
    pub deviation: f64,
}

impl Scale {
    /// Of the training texts' outcomes. The mean is a control variate: E r = 1, so that taking it off leaves the
    /// optimum and removes the variance that a common offset of all outcomes would add.
    pub fn of(outcomes: &[f64]) -> Result<Self, Error> {
        let count = outcomes.len() as f64;
        let mean = outcomes.iter().map(|outcome| outcome / count).sum::<f64>();
        let deviation = outcomes.iter().map(|outcome| (outcome - mean).powi(2) / count).sum::<f64>().sqrt();
        let are_equal = outcomes.windows(2).all(|pair| pair[0] == pair[1]);
        match deviation.is_finite() {
            true if !are_equal && deviation > 0.0 => Ok(Self { mean, deviation }),
            true => Err(Error::Data(format!("all outcomes are {mean}: there is nothing to learn from them"))),
            false => Err(Error::Data("outcomes are too large: their variance overflows".into())),
        }
    }

    /// An outcome in deviations from the mean.
    pub fn standardised(&self, outcome: f64) -> f64 {
        (outcome - self.mean) / self.deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standardised_outcomes_have_mean_0_and_deviation_1() {
        let outcomes = [1.0, 2.0, 6.0];
        let scale = Scale::of(&outcomes).unwrap();
        let values = outcomes.map(|outcome| scale.standardised(outcome));
        assert!(values.iter().sum::<f64>().abs() < 1e-12);
        assert!((values.iter().map(|value| value * value).sum::<f64>() - 3.0).abs() < 1e-12);
    }

    #[test]
    fn equal_outcomes_teach_nothing_and_are_refused() {
        assert!(Scale::of(&[2.0, 2.0]).unwrap_err().to_string().contains("nothing to learn"));
        assert!(Scale::of(&[1e300, -1e300]).unwrap_err().to_string().contains("too large"));
    }
}
