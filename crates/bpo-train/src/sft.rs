//! Supervised fine-tuning: the policy a preference run starts from.
use std::time::Instant;

use bpo_data::{Counts, Group, PromptOrder, Rows as RowsOf, TextRow, Tokenizer, fit_pair};
use bpo_model::{Adapter, Decoder};
use bpo_store::{RowFile, RunDir};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    Error, Gradients, Observer, Recipe, SftRecipe, Stage, Trainable, backward,
    evaluate::pack,
    export::export,
    numerics::{Rows, not_finite},
    rows_at_work::worked,
    run::mixed,
    state::State,
    step_metrics::peak_rss_mib,
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
    /// Steps done; fewer than all when interrupted.
    pub steps: u64,
    /// Whether the observer stopped it.
    pub interrupted: bool,
    /// Mean loss per token of the run's last steps (at most 50), if it took any.
    pub loss: Option<f64>,
    /// Where the result lies, inside the run directory.
    pub output: String,
}

/// A row as ids: what is read without loss, and what is learnt.
#[derive(Debug, Serialize, Deserialize)]
struct Example {
    context: Vec<u32>,
    target: Vec<u32>,
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
) -> Result<SftReport, Error> {
    recipe.validate()?;
    let shared = recipe.as_recipe();
    let SftInputs { base, base_name, tokenizer, rows, companions } = inputs;
    let base = base.with_gradient_checkpointing(recipe.gradient_checkpointing);
    let context = base.config().max_position_embeddings;
    let examples = examples(recipe, &tokenizer, context, &rows, dir.rows(), observer)?;
    let initial = if recipe.use_peft {
        Trainable::Lora(Adapter::new(&base, shared.lora(), recipe.seed)?)
    } else {
        Trainable::Full(base.parameters())
    };
    let total = shared.steps(examples.len());
    let mut checkpoints = dir.checkpoints()?;
    let latest = checkpoints.latest()?;
    for set in checkpoints.quarantined() {
        observer.note(&format!("a damaged checkpoint (step {}) was set aside: {}", set.step, set.path.display()));
    }
    let start = State::solo(initial, shared.adamw());
    let mut state = match &latest {
        Some(checkpoint) => start.restored(checkpoint, shared.adamw(), &base.device())?,
        None => start,
    };
    let mut metrics = dir.metrics(latest.map(|checkpoint| checkpoint.step))?;
    let (order, rate) = (PromptOrder::new(examples.len(), recipe.seed), shared.rate(total));
    while state.step < total {
        if observer.interrupted() {
            state.save(&mut checkpoints)?;
            return Ok(SftReport {
                steps: state.step,
                interrupted: true,
                loss: recent_loss(dir)?,
                output: String::new(),
            });
        }
        let started = Instant::now();
        let order = order.at(state.step, shared.prompts_per_step());
        let batch: Vec<Example> = order.iter().map(|&index| examples.get(index)).collect::<Result<_, _>>()?;
        let now = rate.at(state.step);
        let (loss, grad_norm) = step(&shared, &base, &tokenizer, &mut state, (&order, &batch), now, (dir, observer))?;
        let mut record = Map::new();
        record.insert("step".into(), json!(state.step));
        record.insert("loss".into(), json!(loss));
        record.insert("grad_norm".into(), json!(grad_norm));
        record.insert("learning_rate".into(), json!(now));
        record.insert("time/step".into(), json!(started.elapsed().as_secs_f64()));
        if let Some(mebibytes) = peak_rss_mib() {
            record.insert("memory/peak_rss_mib".into(), json!(mebibytes));
        }
        metrics.append(&Value::Object(record.clone()))?;
        observer.step(state.step, total, &record);
        if state.step.is_multiple_of(recipe.save_steps) || state.step == total {
            state.save(&mut checkpoints)?;
        }
    }
    let output = export(dir, "", &state.ensemble.policy()?.policy, &base, &base_name, &companions)?;
    let loss = recent_loss(dir)?;
    dir.mark_finished(&json!({"steps": total, "loss": loss, "output": output}))?;
    Ok(SftReport { steps: total, interrupted: false, loss, output })
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
    let trained = state.ensemble.policy()?.policy;
    observer.begin(Stage::Train, batch.len().div_ceil(recipe.per_device_train_batch_size) as u64);
    for (index, micro) in batch.chunks(recipe.per_device_train_batch_size).enumerate() {
        let groups: Vec<Group<'_>> =
            micro.iter().map(|row| Group { prompt: &row.context, completions: vec![&row.target] }).collect();
        let layout = pack(base, &groups, tokenizer.pad_id().unwrap_or(0))?;
        let (policy, leaves) = trained.tracked(base)?;
        let policy = policy.with_dropout_seed(mixed(recipe.seed, state.step, index as u64));
        let (scored, mut grads) =
            backward(&policy, &layout, |scored| Ok(vec![-1.0 / tokens as f32; scored.sums.len()]))?;
        loss -= scored.sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() / tokens as f64;
        gradients.add(&leaves, &mut grads);
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

/// Puts the rows that are left into `examples`, which is empty.
fn examples(
    recipe: &SftRecipe,
    tokenizer: &Tokenizer,
    context: usize,
    rows: &RowsOf<TextRow>,
    mut examples: RowFile<Example>,
    observer: &mut dyn Observer,
) -> Result<RowFile<Example>, Error> {
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
    if counts.total_dropped() + counts.truncated > 0 {
        observer.note(&format!("rows: {counts}"));
    }
    Ok(examples)
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
