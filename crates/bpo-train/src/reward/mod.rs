//! Reward models: a score for every response, fitted to preference pairs.
mod evaluation;
mod pairs;
mod trained;

use std::time::Instant;

use bpo_data::{PreferenceRow, PromptOrder, Rows as RowsOf, Tokenizer};
use bpo_model::SequenceClassifier;
use bpo_store::RunDir;
use serde_json::{Map, Value, json};

pub use self::{
    evaluation::{ReliabilityBin, RewardEvaluation},
    pairs::reward_ids,
};
use self::{
    pairs::{Pairs, split},
    trained::{Features, Step, Trained},
};
use crate::{
    Error, Gradients, Observer, RewardRecipe, Stage, Trainable, Tuning,
    numerics::{Rows, not_finite},
    run::mixed,
    state::State,
    step_metrics::peak_rss_mib,
};

/// What the training of a reward model works on.
pub struct RewardInputs {
    /// The model, with a head.
    pub model: SequenceClassifier,
    /// Tensors of the head that are new.
    pub made: Vec<String>,
    /// What `base_model_name_or_path` of an adapter shall say.
    pub base_name: String,
    /// Text → ids.
    pub tokenizer: Tokenizer,
    /// Preference pairs.
    pub rows: RowsOf<PreferenceRow>,
    /// Held-out pairs, where they are given.
    pub eval_rows: Option<RowsOf<PreferenceRow>>,
    /// Tokenizer files written beside the model.
    pub companions: Vec<(String, Vec<u8>)>,
}

/// What the training of a reward model came to.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardReport {
    /// Steps done; fewer than all when interrupted.
    pub steps: u64,
    /// Whether the observer stopped it.
    pub interrupted: bool,
    /// On the held-out pairs, where there are any.
    pub evaluation: Option<RewardEvaluation>,
    /// Where the model lies, inside the run directory.
    pub output: String,
}

/// Fits a reward model in `dir`, or goes on with it: [`bradley_terry`](bpo_loss::bradley_terry) over pairs in the order of
/// the seed, with the optimiser and the checkpoints of the other runs. In the end the model, its adapter folded in, is
/// written to `model/`, and the adapter to `adapter/`.
///
/// # Errors
/// [`Error`]; whatever is durable in the run directory stays.
pub fn reward(
    recipe: &RewardRecipe,
    inputs: RewardInputs,
    dir: &RunDir,
    observer: &mut dyn Observer,
) -> Result<RewardReport, Error> {
    recipe.validate()?;
    let shared = recipe.as_recipe();
    let RewardInputs { model, made, base_name, tokenizer, rows, eval_rows, companions } = inputs;
    if recipe.gradient_checkpointing && model.reads_pairs() {
        return Err(Error::Recipe("gradient_checkpointing has no effect on encoders".into()));
    }
    let model = model.with_gradient_checkpointing(recipe.gradient_checkpointing).with_pad_token(tokenizer.pad_id());
    let split = split(recipe, &model, &tokenizer, (&rows, eval_rows.as_ref()), dir, observer)?;
    split.notes.iter().for_each(|note| observer.note(note));
    if !made.is_empty() {
        observer.note(&format!("a new head: {}", made.join(", ")));
    }
    let trained = Trained::new(recipe, model)?;
    let total = shared.steps(split.train.len());
    let mut checkpoints = dir.checkpoints()?;
    let latest = checkpoints.latest()?;
    for set in checkpoints.quarantined() {
        observer.note(&format!("a damaged checkpoint (step {}) was set aside: {}", set.step, set.path.display()));
    }
    let start = State::solo(Trainable::Full(trained.initial()), shared.adamw());
    let mut state = match &latest {
        Some(checkpoint) => start.restored(checkpoint, shared.adamw(), &trained.model.device())?,
        None => start,
    };
    let mut metrics = dir.metrics(latest.map(|checkpoint| checkpoint.step))?;
    let features = match recipe.tuning {
        Tuning::Head if state.step < total => Features::of(&trained.model, &split.train, dir, observer)?,
        _ => None,
    };
    let (order, rate) = (PromptOrder::new(split.train.len(), recipe.seed), shared.rate(total));
    while state.step < total {
        if observer.interrupted() {
            state.save(&mut checkpoints)?;
            return Ok(RewardReport { steps: state.step, interrupted: true, evaluation: None, output: String::new() });
        }
        let started = Instant::now();
        let batch = order.at(state.step, shared.prompts_per_step());
        let now = rate.at(state.step);
        let step = step(recipe, &trained, &split.train, features.as_ref(), &batch, &mut state, now, (dir, observer))?;
        let mut record = step.record();
        record.insert("step".into(), json!(state.step));
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
    let parameters = state.ensemble.policy()?.policy.parameters().clone();
    let Some(scores) = trained.scores(&parameters, &split.held_out, observer)? else {
        return Ok(RewardReport { steps: total, interrupted: true, evaluation: None, output: String::new() });
    };
    let evaluation = RewardEvaluation::of(&scores[0], &scores[1], recipe.seed);
    let output = trained.export(dir, &parameters, &base_name, &companions)?;
    let summary: Map<String, Value> = [
        ("steps".to_string(), json!(total)),
        ("pairs".to_string(), json!(split.train.len())),
        ("evaluation".to_string(), json!(evaluation)),
        ("output".to_string(), json!(output)),
    ]
    .into_iter()
    .collect();
    dir.mark_finished(&Value::Object(summary))?;
    Ok(RewardReport { steps: total, interrupted: false, evaluation, output })
}

#[allow(clippy::too_many_arguments, reason = "all of a run")]
fn step(
    recipe: &RewardRecipe,
    trained: &Trained,
    pairs: &Pairs,
    features: Option<&Features>,
    batch: &[usize],
    state: &mut State,
    rate: f64,
    (dir, observer): (&RunDir, &mut dyn Observer),
) -> Result<Step, Error> {
    // Texts of like lengths together: less padding where there is some.
    let mut sorted = batch.to_vec();
    sorted.sort_by_key(|&pair| pairs.length(pair, 0).max(pairs.length(pair, 1)));
    let parameters = state.ensemble.policy()?.policy.parameters().clone();
    let (mut gradients, mut step) = (Gradients::default(), Step::default());
    let micros = sorted.chunks(recipe.per_device_train_batch_size);
    observer.begin(Stage::Train, micros.len() as u64);
    for (index, micro) in micros.enumerate() {
        let seed = mixed(recipe.seed, state.step, index as u64);
        let share = 1.0 / batch.len() as f64;
        let read = pairs.some(micro)?;
        let (leaves, mut grads, part) = match features {
            Some(features) => trained.head_backward(&parameters, &features.some(micro)?, &read, share)?,
            None => trained.backward(&parameters, &read, share, seed)?,
        };
        gradients.add(&leaves, &mut grads);
        step.add(&part);
        observer.advance(index as u64 + 1);
    }
    observer.end();
    let at = state.step;
    // What is wrong with the step matters more than that its rows cannot be read.
    let rows =
        || -> Rows { pairs.some(batch).unwrap_or_default().iter().map(|pair| (pair.line, pair.json())).collect() };
    if !step.loss.is_finite() {
        return Err(not_finite(dir, at, "the loss", rows()));
    }
    let norms = state.ensemble.update(&[gradients], rate).map_err(|what| not_finite(dir, at, what, rows()))?;
    state.step += 1;
    step.grad_norm = norms.iter().sum();
    Ok(step)
}
