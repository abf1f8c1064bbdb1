//! Reward models: a score for every response, fitted to preference pairs.
mod evaluation;
mod pairs;
mod trained;

use bpo_data::{PreferenceRow, Rows as RowsOf, Tokenizer};
use bpo_model::SequenceClassifier;
use bpo_store::RunDir;
use serde_json::{Map, Value, json};

use self::trained::Step;
pub use self::{
    evaluation::{ReliabilityBin, RewardEvaluation},
    pairs::reward_ids,
};
pub(crate) use self::{
    pairs::{Pairs, Reader, Split, split},
    trained::{Features, Trained},
};
use crate::{
    Error, Gradients, Observer, Outcome, RewardRecipe, Stage, Trainable, Tuning,
    numerics::{Rows, not_finite},
    run::mixed,
    state::State,
    steps::{Steps, TOKENS},
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
    /// Steps done.
    pub steps: u64,
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
) -> Result<Outcome<RewardReport>, Error> {
    recipe.validate()?;
    let shared = recipe.as_recipe();
    let RewardInputs { model, made, base_name, tokenizer, rows, eval_rows, companions } = inputs;
    let model = recipe.prepared(model, &tokenizer)?;
    let rows = (&rows, eval_rows.as_ref());
    let split = split(recipe, Reader::of(&model), &tokenizer, rows, Some(dir), observer)?;
    split.notes.iter().for_each(|note| observer.note(note));
    if !made.is_empty() {
        observer.note(&format!("a new head: {}", made.join(", ")));
    }
    let trained = Trained::new(recipe, model)?;
    let start = (Trainable::Full(trained.initial()), &trained.model.device());
    let mut steps = Steps::resumed(&shared, split.train.len(), start, dir, observer)?;
    let features = match recipe.tuning {
        Tuning::Head if steps.are_left() => Features::of(&trained.model, &split.train, dir.rows(), observer)?,
        _ => None,
    };
    let is_done = steps.complete(observer, |state, batch, rate, observer| {
        let pairs = (&split.train, features.as_ref());
        let mut said = step(recipe, &trained, pairs, batch, state, rate, (dir, observer))?.record();
        // The head alone reads no text in its steps.
        if features.is_none() {
            let tokens = |&pair: &usize| split.train.length(pair, 0) + split.train.length(pair, 1);
            said.insert(TOKENS.into(), json!(batch.iter().map(tokens).sum::<usize>()));
        }
        Ok(said)
    })?;
    let (total, state) = (steps.total, &steps.state);
    if !is_done {
        return Ok(Outcome::Interrupted(state.step));
    }
    let parameters = state.ensemble.policy()?.policy.parameters().clone();
    let Some(scores) = trained.scores(&parameters, &split.held_out, observer)? else {
        return Ok(Outcome::Interrupted(total));
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
    Ok(Outcome::Finished(Box::new(RewardReport { steps: total, evaluation, output })))
}

impl RewardRecipe {
    /// The model as this recipe trains it.
    pub(crate) fn prepared(
        &self,
        model: SequenceClassifier,
        tokenizer: &Tokenizer,
    ) -> Result<SequenceClassifier, Error> {
        if self.gradient_checkpointing && model.reads_pairs() {
            return Err(Error::Recipe("gradient_checkpointing has no effect on encoders".into()));
        }
        Ok(model.with_gradient_checkpointing(self.gradient_checkpointing).with_pad_token(tokenizer.pad_id()))
    }
}

fn step(
    recipe: &RewardRecipe,
    trained: &Trained,
    (pairs, features): (&Pairs, Option<&Features>),
    batch: &[usize],
    state: &mut State,
    rate: f64,
    (dir, observer): (&RunDir, &mut dyn Observer),
) -> Result<Step, Error> {
    // Texts of like lengths together: less padding where there is some.
    let mut sorted = batch.to_vec();
    sorted.sort_by_key(|&pair| pairs.longer(pair));
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
