//! From rows to the texts of a run: split, tokenised, fitted, scaled.
use bpo_data::{Counts, Group, OutcomeRow, Prompt, PromptRow, ReferenceRow, Tokenizer, fit_pair};

use crate::{CausalRecipe, Error, EvalPrompt, Prepared, TrainPrompt, TrainRows, eval_prompts, prepare};

/// A logged text as the run works on it.
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub train: Vec<Text>,
    pub eval: Vec<EvalPrompt>,
    pub notes: Vec<String>,
}

/// Splits off what is evaluated on, as [`prepare`] does, and tokenises the rest. Where no row has a prompt, the
/// policy is evaluated on texts from BOS alone.
pub(crate) fn texts(
    recipe: &CausalRecipe,
    tokenizer: &Tokenizer,
    context: usize,
    rows: &[OutcomeRow],
    references: Option<Vec<ReferenceRow>>,
) -> Result<Texts, Error> {
    let shared = recipe.as_recipe();
    let limits = shared.limits(context)?;
    let Prepared { train: mut prompts, mut eval, notes } = if rows.iter().any(|row| row.prompt.is_some()) {
        prepare(&shared, tokenizer, context, TrainRows::Prompts(prompt_rows(rows)), references)?
    } else {
        let references = references.unwrap_or_default();
        let (eval, _) = eval_prompts(&references, tokenizer, &limits, shared.eval_size, shared.apply_chat_template)?;
        Prepared { eval, ..Prepared::default() }
    };
    let alone = alone(tokenizer, rows)?;
    if eval.is_empty()
        && let Some(first) = alone.first()
    {
        let prompt = |id| EvalPrompt { prompt: TrainPrompt { id, ..first.clone() }, reference: None };
        eval = (0..recipe.eval_size).map(prompt).collect();
    }
    prompts.extend(alone);
    prompts.sort_by_key(|prompt| prompt.id);
    let (mut counts, mut train) = (Counts::default(), Vec::with_capacity(prompts.len()));
    for prompt in prompts {
        let row = &rows[prompt.id];
        let completion = tokenizer.encode_completion(&row.completion, true)?;
        let has_bos = tokenizer.bos_id().is_some_and(|bos| prompt.ids.first() == Some(&bos));
        let before = (prompt.ids.len(), completion.len());
        let Some((ids, completion)) = counts.keep(fit_pair(prompt.ids, completion, &limits, has_bos)?) else {
            continue;
        };
        // A text that was cut is another text.
        let logging_logp = row.logging_logp.filter(|_| before == (ids.len(), completion.len()));
        train.push(Text {
            prompt: TrainPrompt { ids, ..prompt },
            completion,
            written: row.completion.clone(),
            outcome: row.outcome,
            predicted: row.predicted_outcome,
            logging_logp,
        });
    }
    if train.is_empty() {
        return Err(Error::Data(format!("no text is left to train on: {counts}")));
    }
    let mut texts = Texts { train, eval, notes };
    if counts.total_dropped() + counts.truncated > 0 {
        texts.notes.push(format!("texts: {counts}"));
    }
    Ok(texts)
}

fn prompt_rows(rows: &[OutcomeRow]) -> Vec<PromptRow> {
    let prompt = |(id, row): (usize, &OutcomeRow)| {
        Some(PromptRow { id, line: row.line, prompt: row.prompt.clone()?, reference: None })
    };
    rows.iter().enumerate().filter_map(prompt).collect()
}

/// The prompts of rows without one.
fn alone(tokenizer: &Tokenizer, rows: &[OutcomeRow]) -> Result<Vec<TrainPrompt>, Error> {
    let mut ids = tokenizer.encode_prompt(&Prompt::Text(String::new()))?;
    if ids.is_empty() {
        ids.extend(tokenizer.bos_id());
    }
    let without = || rows.iter().enumerate().filter(|(_, row)| row.prompt.is_none());
    match without().next() {
        Some((_, row)) if ids.is_empty() => {
            let line = row.line;
            Err(Error::Data(format!("outcomes, line {line}: a text without a prompt needs a tokenizer with BOS")))
        }
        _ => Ok(without()
            .map(|(id, _)| TrainPrompt { id, text: String::new(), ids: ids.clone(), given: Vec::new() })
            .collect()),
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
    pub fn of(texts: &[Text]) -> Result<Self, Error> {
        let count = texts.len() as f64;
        let mean = texts.iter().map(|text| text.outcome / count).sum::<f64>();
        let deviation = texts.iter().map(|text| (text.outcome - mean).powi(2) / count).sum::<f64>().sqrt();
        let are_equal = texts.windows(2).all(|pair| pair[0].outcome == pair[1].outcome);
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

    fn text(outcome: f64) -> Text {
        let prompt = TrainPrompt { id: 0, text: String::new(), ids: vec![1], given: Vec::new() };
        Text { prompt, completion: vec![2], written: String::new(), outcome, predicted: None, logging_logp: None }
    }

    #[test]
    fn standardised_outcomes_have_mean_0_and_deviation_1() {
        let texts = [1.0, 2.0, 6.0].map(text);
        let scale = Scale::of(&texts).unwrap();
        let values: Vec<f64> = texts.iter().map(|text| scale.standardised(text.outcome)).collect();
        assert!(values.iter().sum::<f64>().abs() < 1e-12);
        assert!((values.iter().map(|value| value * value).sum::<f64>() - 3.0).abs() < 1e-12);
    }

    #[test]
    fn equal_outcomes_teach_nothing_and_are_refused() {
        assert!(Scale::of(&[text(2.0), text(2.0)]).unwrap_err().to_string().contains("nothing to learn"));
        assert!(Scale::of(&[text(1e300), text(-1e300)]).unwrap_err().to_string().contains("too large"));
    }
}
