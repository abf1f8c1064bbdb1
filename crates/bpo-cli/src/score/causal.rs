//! Log-probs under a language model, from hidden states: the logits of a batch are never held.
use bpo_data::{Group, padded};
use bpo_model::Decoder;
use burn::tensor::Device;
use serde_json::json;

use super::{
    ScoreArgs,
    batches::{batches, in_windows},
    rows::{RowFile, Sequence},
};
use crate::{
    args::Globals,
    failure::{Failure, Kind},
    out::Out,
    source::ModelSource,
};

/// Prints `logp` and `length` of every row.
pub fn run(args: &ScoreArgs, model: &ModelSource, device: &Device, globals: &Globals) -> Result<(), Failure> {
    let file = RowFile::open(&args.input, &["prompt_ids", "response_ids"])?;
    let decoder = model.load_with_adapter(args.adapter.as_deref(), device, args.dtype)?;
    let vocab = decoder.config().vocab_size;
    let tokenizer = match file.holds_ids {
        true => None,
        false => Some(model.load_matching_tokenizer(args.tokenizer.as_deref(), decoder.config())?),
    };
    let each_sequence = |each: &mut dyn FnMut(Sequence) -> Result<(), Failure>| match &tokenizer {
        Some(tokenizer) => file.each_encoded(tokenizer, !args.no_eos, each),
        None => file.each_object(|row| {
            each(Sequence {
                line: row.line,
                prompt: file.ids(&row, "prompt_ids", vocab)?,
                response: file.ids(&row, "response_ids", vocab)?,
            })
        }),
    };
    // Before anything is scored, all of it is looked at; nothing of it is held.
    let (context, mut long) = (decoder.config().max_position_embeddings, None);
    each_sequence(&mut |row| {
        if row.prompt.is_empty() {
            return Err(file.error(row.line, "the prompt has no tokens: nothing predicts the response's first one"));
        }
        if row.length() > context {
            long.get_or_insert((row.line, row.length()));
        }
        Ok(())
    })?;
    if let Some((line, tokens)) = long {
        file.warn_of_long(line, tokens, context);
    }
    let (mut out, progress) = (Out::new(), globals.progress());
    let mut stage = progress.stage("scoring", file.len, "rows");
    in_windows(each_sequence, |window| {
        let mut scored = vec![Vec::new(); window.len()];
        let lengths: Vec<usize> = window.iter().map(Sequence::length).collect();
        for batch in batches(&lengths, args.batch_tokens) {
            let rows: Vec<&Sequence> = batch.iter().map(|&row| &window[row]).collect();
            for (row, logps) in batch.iter().zip(logps(&decoder, &rows)?) {
                scored[*row] = logps;
            }
            stage.advance(batch.len());
        }
        for (row, logps) in window.iter().zip(&scored) {
            print(&mut out, &file, row.line, logps, args.per_token)?;
        }
        out.flush()
    })?;
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

/// The log-prob of each response token of each row.
fn logps(decoder: &Decoder, rows: &[&Sequence]) -> Result<Vec<Vec<f32>>, Failure> {
    let groups: Vec<Group<'_>> =
        rows.iter().map(|row| Group { prompt: &row.prompt, completions: vec![&row.response] }).collect();
    Ok(bpo_train::token_logps(decoder, &padded(&groups, 0)?)?)
}
