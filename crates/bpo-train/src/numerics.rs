//! The end of a step whose numbers are not finite: nothing is updated, and its batch is written down.
use bpo_store::RunDir;
use serde_json::{Value, json};

use crate::{Error, Sample, Scored, TrainPrompt, collect::Pair, update::Losses};

/// Rows of a batch, each with the id of its prompt.
pub(crate) type Rows = Vec<(usize, Value)>;

/// Writes the batch down in the run, as `non-finite/step-00000004.json`, and says why the run ends.
pub(crate) fn not_finite(dir: &RunDir, step: u64, what: impl Into<String>, rows: Rows) -> Error {
    let what = what.into();
    let (prompts, rows): (Vec<usize>, Vec<Value>) = rows.into_iter().unzip();
    let name = format!("non-finite/step-{step:08}.json");
    let text = format!("{:#}\n", json!({"step": step, "what": what, "prompts": prompts, "rows": rows}));
    // What is not finite is the failure to report, not that it could not be written down.
    let dump = dir.write(&name, text.as_bytes()).ok().map(|()| dir.path().join(&name));
    Error::NonFinite { step, what, prompts, dump }
}

/// Prompts by id, as rows.
pub(crate) fn of_prompts<'p>(prompts: impl IntoIterator<Item = &'p TrainPrompt>) -> Rows {
    prompts.into_iter().map(|prompt| (prompt.id, json!({"prompt": prompt.id, "text": prompt.text}))).collect()
}

/// Pairs by the id of their prompt, as rows.
pub(crate) fn of_pairs(pairs: &[Pair<'_>]) -> Rows {
    let sample = |sample: &Sample| {
        let logps: Vec<Value> = sample.logps.iter().map(|&logp| number(logp)).collect();
        json!({"text": sample.text, "tokens": sample.tokens, "logps": logps})
    };
    let row = |pair: &Pair<'_>| {
        let (chosen, rejected) = (sample(pair.chosen), sample(pair.rejected));
        let row = json!({
            "prompt": pair.prompt.id, "text": pair.prompt.text, "sampled_at": pair.at,
            "chosen": chosen, "rejected": rejected,
        });
        (pair.prompt.id, row)
    };
    pairs.iter().map(row).collect()
}

/// What is not finite in a scored batch, and the rows of its pairs with what was computed of them.
pub(crate) fn found(
    pairs: &[Pair<'_>],
    scored: &Scored,
    reference: &[Vec<f32>],
    losses: &Losses,
) -> Option<(String, Rows)> {
    let bad = |logps: &[Vec<f32>]| logps.iter().flatten().any(|logp| !logp.is_finite());
    let what = if bad(&scored.tokens) {
        "the policy's log-prob"
    } else if bad(reference) {
        "the reference's log-prob"
    } else if !losses.are_finite() {
        "the loss"
    } else {
        return None;
    };
    let mut rows = of_pairs(pairs);
    for (index, (_, row)) in rows.iter_mut().enumerate() {
        let side =
            |of: &[Vec<f32>; 2]| of.each_ref().map(|side| side.get(index).map_or(Value::Null, |&sum| number(sum)));
        row["policy_logps"] = json!(side(&losses.policy));
        row["reference_logps"] = json!(side(&losses.reference));
    }
    Some((what.to_owned(), rows))
}

/// A number as JSON, in words where it has no digits.
fn number(value: f32) -> Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}
