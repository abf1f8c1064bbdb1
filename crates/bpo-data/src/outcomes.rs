//! Texts with numeric outcomes, for causal preference optimisation.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::rows::Object;
use crate::{Error, FromRow, Prompt, Read, RowReader, schema};

/// A logged text with what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeRow {
    /// 1-based line in the source.
    pub line: usize,
    /// What the text continues; `None` for a text on its own.
    pub prompt: Option<Prompt>,
    /// The text.
    pub completion: String,
    /// What was observed of it.
    pub outcome: f64,
    /// What an outcome model expects of it, where the row says so.
    pub predicted_outcome: Option<f64>,
    /// Σ log-prob under the policy that wrote it, in nats, where the row says so.
    pub logging_logp: Option<f64>,
}

/// Reads texts with outcomes.
///
/// Accepted: `outcome`, a finite number, with `completion`, `response` or `text` after an optional `prompt`, or with
/// any other row of [`read_texts`](crate::read_texts); `predicted_outcome` and `logging_logp` where there are such.
///
/// # Errors
/// As [`read_prompts`](crate::read_prompts); also a number that is missing, not a number or not finite, and a
/// `logging_logp` above 0.
pub fn read_outcomes(path: &Path) -> Result<Vec<OutcomeRow>, Error> {
    Ok(RowReader::file(path).outcomes()?.rows)
}

/// [`read_outcomes`] over bytes in memory; `source` names them in errors.
///
/// # Errors
/// As [`read_outcomes`].
pub fn read_outcomes_from(source: &str, bytes: &[u8]) -> Result<Vec<OutcomeRow>, Error> {
    Ok(RowReader::bytes(source, bytes).outcomes()?.rows)
}

impl RowReader<'_> {
    /// As [`read_outcomes`].
    ///
    /// # Errors
    /// As [`read_outcomes`]; [`Error::TooManyBad`].
    pub fn outcomes(&self) -> Result<Read<OutcomeRow>, Error> {
        self.all()
    }
}

impl FromRow for OutcomeRow {
    fn from_row(_: usize, line: usize, row: &Object) -> Result<Result<Self, &'static str>, String> {
        let (prompt, completion) = schema::text(row)?;
        let outcome = schema::number(row, "outcome")?.ok_or("`outcome` is missing: the number observed of the text")?;
        let predicted_outcome = schema::number(row, "predicted_outcome")?;
        let logging_logp = schema::number(row, "logging_logp")?;
        if logging_logp.is_some_and(|logp| logp > 0.0) {
            return Err("`logging_logp` is above 0: it is a log-probability, in nats".to_owned());
        }
        Ok(Ok(Self { line, prompt, completion, outcome, predicted_outcome, logging_logp }))
    }

    fn bytes(&self) -> usize {
        self.prompt.as_ref().map_or(0, Prompt::bytes) + self.completion.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<Vec<OutcomeRow>, String> {
        read_outcomes_from("data", text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_row_is_a_text_after_a_prompt_or_alone_with_its_outcome() {
        let read = rows(concat!(
            r#"{"prompt":"p","completion":" c","outcome":1,"predicted_outcome":0.5,"logging_logp":-3.25}"#,
            "\n",
            r#"{"text":"t","outcome":-2.5}"#,
            "\n",
            r#"{"prompt":"","response":"r","outcome":0}"#,
            "\n",
            r#"{"prompt":"p","text":"t","outcome":0}"#,
        ))
        .unwrap();
        let prompt = |text: &str| Some(Prompt::Text(text.to_owned()));
        let row = |line, prompt, completion: &str, outcome| OutcomeRow {
            line,
            prompt,
            completion: completion.to_owned(),
            outcome,
            predicted_outcome: None,
            logging_logp: None,
        };
        let first =
            OutcomeRow { predicted_outcome: Some(0.5), logging_logp: Some(-3.25), ..row(1, prompt("p"), " c", 1.0) };
        assert_eq!(read, [first, row(2, None, "t", -2.5), row(3, None, "r", 0.0), row(4, prompt("p"), "t", 0.0)]);
    }

    #[test]
    fn a_row_without_an_outcome_names_its_line() {
        let error = rows("{\"text\":\"t\",\"outcome\":1}\n\n{\"text\":\"SECRET\"}").unwrap_err();
        assert!(error.starts_with("data:3: `outcome` is missing"), "{error}");
    }

    #[test]
    fn an_outcome_that_is_no_finite_number_is_refused() {
        for (value, word) in [
            ("\"good\"", "must be a number, not a string"),
            ("true", "must be a number, not a boolean"),
            ("1e999", "number out of range"),
            ("null", "`outcome` is missing"),
        ] {
            let error = rows(&format!("{{\"text\":\"t\",\"outcome\":{value}}}")).unwrap_err();
            assert!(error.starts_with("data:1: ") && error.contains(word), "{error}");
        }
        let error = rows(r#"{"text":"t","outcome":1,"predicted_outcome":"x"}"#).unwrap_err();
        assert!(error.contains("`predicted_outcome`"), "{error}");
    }

    #[test]
    fn a_logging_log_prob_above_zero_is_refused() {
        let error = rows(r#"{"text":"t","outcome":1,"logging_logp":0.5}"#).unwrap_err();
        assert!(error.contains("data:1: `logging_logp` is above 0"), "{error}");
    }

    #[test]
    fn a_row_without_a_text_is_refused_by_its_keys() {
        let error = rows(r#"{"prompt":"p","outcome":1}"#).unwrap_err();
        assert!(error.contains("unknown schema: the row has [prompt, outcome]"), "{error}");
    }
}
