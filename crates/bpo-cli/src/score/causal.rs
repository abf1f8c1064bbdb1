//! Log-probs under a language model, from hidden states: the logits of a batch are never held.
use bpo_data::{Group, Row, padded};
use bpo_loss::Head;
use bpo_model::Decoder;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::json;

use super::{
    ScoreArgs,
    batches::{WINDOW, batches},
    rows::{RowFile, Sequence, hold_ids},
};
use crate::{
    args::Globals,
    failure::{Failure, Kind},
    out::Out,
    source::ModelSource,
};

/// Prints `logp` and `length` of every row.
pub fn run(args: &ScoreArgs, model: &ModelSource, device: &Device, globals: &Globals) -> Result<(), Failure> {
    let file = RowFile::read(&args.input)?;
    let objects = file.objects()?;
    let decoder = model.load_with_adapter(args.adapter.as_deref(), device)?;
    let vocab = decoder.config().vocab_size;
    let sequences = if hold_ids(&objects, &["prompt_ids", "response_ids"]) {
        let ids = |row: &Row| {
            Ok(Sequence {
                line: row.line,
                prompt: file.ids(row, "prompt_ids", vocab)?,
                response: file.ids(row, "response_ids", vocab)?,
            })
        };
        objects.iter().map(ids).collect::<Result<Vec<_>, Failure>>()?
    } else {
        let tokenizer = model.load_matching_tokenizer(args.tokenizer.as_deref(), decoder.config())?;
        file.encode(&tokenizer, !args.no_eos)?
    };
    if let Some(row) = sequences.iter().find(|row| row.prompt.is_empty()) {
        return Err(file.error(row.line, "the prompt has no tokens: nothing predicts the response's first one"));
    }
    file.warn_of_long(sequences.iter().map(|row| (row.line, row.length())), decoder.config().max_position_embeddings);
    let scorer = Scorer { head: Head::new(decoder.head_weight()), decoder };
    let (mut out, progress) = (Out::new(), globals.progress());
    let mut stage = progress.stage("scoring", sequences.len(), "rows");
    for window in sequences.chunks(WINDOW) {
        let mut scored = vec![Vec::new(); window.len()];
        let lengths: Vec<usize> = window.iter().map(Sequence::length).collect();
        for batch in batches(&lengths, args.batch_tokens) {
            let rows: Vec<&Sequence> = batch.iter().map(|&row| &window[row]).collect();
            for (row, logps) in batch.iter().zip(scorer.logps(&rows)?) {
                scored[*row] = logps;
            }
            stage.advance(batch.len());
        }
        for (row, logps) in window.iter().zip(&scored) {
            print(&mut out, &file, row.line, logps, args.per_token)?;
        }
        out.flush()?;
    }
    stage.finish();
    Ok(())
}

fn print(out: &mut Out, file: &RowFile, line: usize, logps: &[f32], per_token: bool) -> Result<(), Failure> {
    // Not `sum`, whose sum of nothing is -0.
    let logp = logps.iter().fold(0.0, |sum, &logp| sum + f64::from(logp));
    if !logp.is_finite() {
        let what = file.error(line, "a log-prob is not finite").text();
        return Err(Failure::message(Kind::Numerics, what));
    }
    let mut row = json!({"logp": logp, "length": logps.len()});
    if per_token {
        row["token_logps"] = json!(logps);
    }
    out.json(&row)
}

struct Scorer {
    decoder: Decoder,
    head: Head,
}

impl Scorer {
    /// The log-prob of each response token of each row.
    fn logps(&self, rows: &[&Sequence]) -> Result<Vec<Vec<f32>>, Failure> {
        let groups: Vec<Group<'_>> =
            rows.iter().map(|row| Group { prompt: &row.prompt, completions: vec![&row.response] }).collect();
        let layout = padded(&groups, 0)?;
        let mut logps = vec![Vec::new(); rows.len()];
        if layout.targets.is_empty() {
            return Ok(logps);
        }
        let shape = [layout.rows, layout.time];
        let may_attend = |row, query, key| layout.may_attend(row, query, key);
        let input = self.decoder.input(shape, &layout.ids, &layout.positions, may_attend)?;
        let hidden = self.decoder.hidden(&input);
        let places: Vec<i64> =
            layout.targets.iter().map(|at| i64::from(at.row) * layout.time as i64 + i64::from(at.time)).collect();
        let count = places.len();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &hidden.device());
        let tokens: Vec<u32> = layout.targets.iter().map(|at| at.token).collect();
        let scored = self.head.score(&hidden.select(0, places), &tokens)?.logps;
        let scored: Vec<f32> = scored.try_into_vec_as().map_err(|error| {
            Failure::message(Kind::Internal, format!("reading log-probs back from the device: {error}"))
        })?;
        for (target, logp) in layout.targets.iter().zip(scored) {
            logps[target.sequence as usize].push(logp);
        }
        Ok(logps)
    }
}
