//! Supervised fine-tuning: the policy a preference run starts from.
use bpo_data::{Counts, Group, Rows as RowsOf, TextRow, Tokenizer, fit_pair};
use bpo_model::{Adapter, Decoder};
use bpo_store::{RowFile, RunDir};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Error, Gradients, Observer, Outcome, Recipe, SftRecipe, Stage, Trainable, backward,
    evaluate::pack,
    export::export,
    numerics::{Rows, not_finite},
    rows_at_work::worked,
    run::mixed,
    state::State,
    steps::{Steps, TOKENS},
};

/// What a supervised run works on.
pub struct SftInputs {
    /// The model to fine-tune: read, or random.
    pub base: Decoder,
    /// What `base_model_name_or_path` shall say.
    pub base_name: String,
    /// Text ↔ ids.
    pub tokenizer: Tokenizer,
    /// Texts.
    pub rows: RowsOf<TextRow>,
    /// Tokenizer files written beside the model.
    pub companions: Vec<(String, Vec<u8>)>,
}

/// What a supervised run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct SftReport {
    /// Steps done.
    pub steps: u64,
    /// Mean loss per token of the run's last steps (at most 50), if it took any.
    pub loss: Option<f64>,
    /// Where the result lies, inside the run directory.
    pub output: String,
}

/// A row as ids: what is read without loss, and what is learnt.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Example {
    context: Vec<u32>,
    target: Vec<u32>,
}

impl Example {
    /// Its tokens.
    pub fn length(&self) -> usize {
        self.context.len() + self.target.len()
    }
}

/// Runs, or continues, supervised fine-tuning in `dir`: the mean token loss over the completions (or
/// over whole rows), with the same head, optimiser, checkpoints and layouts as preference runs.
///
/// # Errors
/// [`Error`]; whatever is durable in the run directory stays.
pub fn sft(
    recipe: &SftRecipe,
    inputs: SftInputs,
    dir: &RunDir,
    observer: &mut dyn Observer,
) -> Result<Outcome<SftReport>, Error> {
    recipe.validate()?;
    let shared = recipe.as_recipe();
    let SftInputs { base, base_name, tokenizer, rows, companions } = inputs;
    let base = base.with_gradient_checkpointing(recipe.gradient_checkpointing);
    let context = base.config().max_position_embeddings;
    let (examples, note) = examples(recipe, &tokenizer, context, &rows, dir.rows(), observer)?;
    note.iter().for_each(|note| observer.note(note));
    let start = (initial(recipe, &base)?, &base.device());
    let mut steps = Steps::resumed(&shared, examples.len(), start, dir, observer)?;
    let is_done = steps.complete(observer, |state, order, rate, observer| {
        let batch = examples.some(order.iter().copied())?;
        let (loss, grad_norm) = step(&shared, &base, &tokenizer, state, (order, &batch), rate, (dir, observer))?;
        let tokens: usize = batch.iter().map(Example::length).sum();
        let said = [("loss", json!(loss)), ("grad_norm", json!(grad_norm)), (TOKENS, json!(tokens))];
        Ok(said.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    })?;
    if !is_done {
        return Ok(Outcome::Interrupted(steps.state.step));
    }
    let output = export(dir, "", &steps.state.ensemble.policy()?.policy, &base, &base_name, &companions)?;
    let (total, loss) = (steps.total, recent_loss(dir)?);
    dir.mark_finished(&json!({"steps": total, "loss": loss, "output": output}))?;
    Ok(Outcome::Finished(Box::new(SftReport { steps: total, loss, output })))
}

/// What the run trains, before step 0.
pub(crate) fn initial(recipe: &SftRecipe, base: &Decoder) -> Result<Trainable, Error> {
    Ok(match recipe.use_peft {
        true => Trainable::Lora(Adapter::new(base, recipe.as_recipe().lora(), recipe.seed)?),
        false => Trainable::Full(base.parameters()),
    })
}

/// Rows that are scored together.
pub(crate) struct Micro<'a> {
    pub rows: &'a [Example],
    /// What is learnt of the whole step, in tokens.
    pub tokens: usize,
    /// Of the dropout.
    pub seed: u64,
}

impl Micro<'_> {
    /// Adds the gradients of the step's mean token loss, and gives the part of it that these rows are.
    pub fn add(
        &self,
        (base, pad): (&Decoder, u32),
        trained: &Trainable,
        gradients: &mut Gradients,
    ) -> Result<f64, Error> {
        let groups: Vec<Group<'_>> =
            self.rows.iter().map(|row| Group { prompt: &row.context, completions: vec![&row.target] }).collect();
        let layout = pack(base, &groups, pad)?;
        let (policy, leaves) = trained.tracked(base)?;
        let policy = policy.with_dropout_seed(self.seed);
        let (scored, mut grads) =
            backward(&policy, &layout, |scored| Ok(vec![-1.0 / self.tokens as f32; scored.sums.len()]))?;
        gradients.add(&leaves, &mut grads);
        Ok(-scored.sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() / self.tokens as f64)
    }
}

fn step(
    recipe: &Recipe,
    base: &Decoder,
    tokenizer: &Tokenizer,
    state: &mut State,
    (order, batch): (&[usize], &[Example]),
    rate: f64,
    (dir, observer): (&RunDir, &mut dyn Observer),
) -> Result<(f64, f64), Error> {
    let tokens: usize = batch.iter().map(|example| example.target.len()).sum();
    let (at, mut gradients, mut loss) = (state.step, Gradients::default(), 0.0);
    let (trained, pad) = (state.ensemble.policy()?.policy, tokenizer.pad_id().unwrap_or(0));
    observer.begin(Stage::Train, batch.len().div_ceil(recipe.per_device_train_batch_size) as u64);
    for (index, micro) in batch.chunks(recipe.per_device_train_batch_size).enumerate() {
        let micro = Micro { rows: micro, tokens, seed: mixed(recipe.seed, state.step, index as u64) };
        loss += micro.add((base, pad), &trained, &mut gradients)?;
        observer.advance(index as u64 + 1);
    }
    observer.end();
    let not_finite = |what: String| not_finite(dir, at, what, rows(order, batch));
    if !loss.is_finite() {
        return Err(not_finite("the loss".into()));
    }
    let norms = state.ensemble.update(&[gradients], rate).map_err(not_finite)?;
    state.step += 1;
    Ok((loss, norms.iter().sum()))
}

/// A batch by the places of its rows in the data that are left.
fn rows(order: &[usize], batch: &[Example]) -> Rows {
    let row = |(&row, example): (&usize, &Example)| {
        (row, json!({"row": row, "context": example.context, "target": example.target}))
    };
    order.iter().zip(batch).map(row).collect()
}

/// Puts the rows that are trained on into `examples`, which is empty; and what is to be said about the others.
pub(crate) fn examples(
    recipe: &SftRecipe,
    tokenizer: &Tokenizer,
    context: usize,
    rows: &RowsOf<TextRow>,
    mut examples: RowFile<Example>,
    observer: &mut dyn Observer,
) -> Result<(RowFile<Example>, Option<String>), Error> {
    let limits = bpo_data::Limits {
        max_prompt_length: None,
        max_length: Some(recipe.max_length.min(context)),
        truncation: recipe.truncation,
    };
    let mut counts = Counts::default();
    let work = |row: &TextRow| ids(recipe, tokenizer, row);
    worked(
        rows,
        observer,
        |row| Ok(Some(row)),
        work,
        |_, ids| {
            let Some(Example { context, target }) = ids? else {
                counts.record(bpo_data::DropReason::CompletionEmpty);
                return Ok(());
            };
            let has_bos = tokenizer.bos_id().is_some_and(|bos| context.first() == Some(&bos));
            if let Some((context, target)) = counts.keep(fit_pair(context, target, &limits, has_bos)?) {
                examples.push(&Example { context, target })?;
            }
            Ok(())
        },
    )?;
    if examples.is_empty() {
        return Err(Error::Data(format!("no row is left to train on: {counts}")));
    }
    let note = (counts.total_dropped() + counts.truncated > 0).then(|| format!("rows: {counts}"));
    Ok((examples, note))
}

/// What of a row is read without loss, and what is learnt; `None` where nothing is.
fn ids(recipe: &SftRecipe, tokenizer: &Tokenizer, row: &TextRow) -> Result<Option<Example>, bpo_data::Error> {
    let (prompt, learn_all) = match &row.prompt {
        Some(prompt) => (tokenizer.encode_prompt(prompt)?, recipe.train_on_prompt),
        None => (tokenizer.encode_prompt(&bpo_data::Prompt::Text(String::new()))?, true),
    };
    let completion = tokenizer.encode_completion(&row.completion, true)?;
    let (mut context, mut target) = if prompt.is_empty() {
        let mut tokens = completion;
        if tokens.len() < 2 {
            return Ok(None);
        }
        let rest = tokens.split_off(1);
        (tokens, rest)
    } else {
        (prompt, completion)
    };
    if learn_all && context.len() > 1 {
        let mut rest = context.split_off(1);
        rest.append(&mut target);
        target = rest;
    }
    Ok(Some(Example { context, target }))
}

/// From the metrics, which know the steps before an interruption too.
fn recent_loss(dir: &RunDir) -> Result<Option<f64>, Error> {
    let metrics = dir.read("metrics.jsonl")?.unwrap_or_default();
    let loss = |line: &[u8]| serde_json::from_slice::<Value>(line).ok()?.get("loss")?.as_f64();
    let losses: Vec<f64> = metrics.split(|byte| *byte == b'\n').filter_map(loss).collect();
    let last = &losses[losses.len().saturating_sub(50)..];
    Ok((!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64))
}
