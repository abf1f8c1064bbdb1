//! The tensors of a reward model that are trained, and their gradients.
use bpo_data::PairIds;
use bpo_loss::bradley_terry;
use bpo_model::{Adapter, Backward, Parameters, SequenceClassifier, WeightDtype};
use bpo_store::{RowFile, RunDir};
use burn::tensor::{Tensor, TensorData};
use serde_json::{Map, Value, json};

use super::pairs::{Pair, Pairs};
use crate::{Error, Observer, RewardRecipe, Stage, Tuning, score::host};

/// A reward model with what of it is trained.
pub(crate) struct Trained {
    pub model: SequenceClassifier,
    tuning: Tuning,
    /// Of LoRA, with the values it began with.
    adapter: Option<Adapter>,
    centre: f64,
}

/// Sums over the pairs of a step, each divided by their number.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Step {
    pub loss: f64,
    pub grad_norm: f64,
    chosen: f64,
    rejected: f64,
    accuracy: f64,
}

impl Step {
    pub fn add(&mut self, part: &Self) {
        self.loss += part.loss;
        self.chosen += part.chosen;
        self.rejected += part.rejected;
        self.accuracy += part.accuracy;
    }

    pub fn record(&self) -> Map<String, Value> {
        let numbers = [
            ("loss", self.loss),
            ("grad_norm", self.grad_norm),
            ("rewards/chosen", self.chosen),
            ("rewards/rejected", self.rejected),
            ("rewards/margins", self.chosen - self.rejected),
            ("rewards/accuracies", self.accuracy),
        ];
        numbers.into_iter().map(|(name, value)| (name.to_string(), json!(value))).collect()
    }
}

/// What the head reads of every pair of a body that stays as it is: `[hidden]` of each side.
pub(crate) struct Features {
    /// As their bits.
    rows: RowFile<Vec<u32>>,
    /// Which rows are those of the chosen and of the rejected side, `[pairs]`.
    places: Vec<[u32; 2]>,
}

/// Leaves, their gradients and what was computed on the way.
type Gradient = (Parameters, Backward, Step);

impl Trained {
    /// Tokens scored at once without gradients.
    pub const TOKENS: usize = 8192;

    pub fn new(recipe: &RewardRecipe, model: SequenceClassifier) -> Result<Self, Error> {
        let adapter = match recipe.tuning {
            Tuning::Lora => Some(model.new_adapter(recipe.as_recipe().lora(), recipe.seed)?),
            Tuning::Head | Tuning::Full => None,
        };
        Ok(Self { model, tuning: recipe.tuning, adapter, centre: recipe.center_rewards_coefficient })
    }

    /// The tensors as they are before the first step.
    pub fn initial(&self) -> Parameters {
        let mut parameters = match self.tuning {
            Tuning::Full => return self.model.parameters(),
            Tuning::Head | Tuning::Lora => self.model.head_parameters(),
        };
        for (name, tensor) in self.adapter.iter().flat_map(|adapter| adapter.weights().iter()) {
            parameters.insert(name.to_string(), tensor.clone());
        }
        parameters
    }

    /// The model with other values; `trains` is with LoRA dropout.
    fn with(&self, parameters: &Parameters, trains: bool) -> Result<SequenceClassifier, Error> {
        let model = self.model.with_parameters(parameters);
        Ok(match &self.adapter {
            Some(adapter) => {
                let dropout = if trains { adapter.config.lora_dropout } else { 0.0 };
                model.with_adapter(&self.branches(adapter, parameters), dropout)?
            }
            None => model,
        })
    }

    /// The adapter with other values.
    fn branches(&self, adapter: &Adapter, parameters: &Parameters) -> Adapter {
        adapter.with_weights(adapter.weights().map(|name, old| parameters.get(name).cloned().unwrap_or(old)))
    }

    /// Gradients of the loss of `pairs`, each of which counts `share`.
    pub fn backward(&self, parameters: &Parameters, pairs: &[Pair], share: f64, seed: u64) -> Result<Gradient, Error> {
        let leaves = parameters.tracked();
        let model = self.with(&leaves, true)?.with_dropout_seed(seed);
        let chosen = pairs.iter().map(|pair| &pair.chosen);
        let rows: Vec<_> = chosen.chain(pairs.iter().map(|pair| &pair.rejected)).map(typed).collect();
        let (step, gradients) = model.backward(&rows, |scores| self.loss(scores, pairs, share))?;
        Ok((leaves, gradients, step))
    }

    /// The same of the head alone; of `features` there are the chosen ones first.
    pub fn head_backward(
        &self,
        parameters: &Parameters,
        features: &[Vec<f32>],
        pairs: &[Pair],
        share: f64,
    ) -> Result<Gradient, Error> {
        let leaves = parameters.tracked();
        let model = self.with(&leaves, true)?;
        let values = features.concat();
        let shape = [features.len(), values.len() / features.len()];
        let read = Tensor::from_data(TensorData::new(values, shape), &self.model.device().inner());
        let (step, scalar) = self.loss(model.head(read), pairs, share)?;
        Ok((leaves, scalar.backward().into(), step))
    }

    /// `scores`: `[2 · pairs, 1]`, the chosen responses first.
    fn loss(&self, scores: Tensor<2>, pairs: &[Pair], share: f64) -> Result<(Step, Tensor<1>), Error> {
        let count = pairs.len();
        let scores: Tensor<1> = scores.squeeze_dim(1);
        let margins: Vec<f32> = pairs.iter().map(|pair| pair.margin as f32).collect();
        let margins = margins
            .iter()
            .any(|margin| *margin != 0.0)
            .then(|| Tensor::from_data(TensorData::new(margins, [count]), &self.model.device().inner()));
        let (chosen, rejected) = (scores.clone().narrow(0, 0, count), scores.clone().narrow(0, count, count));
        let scalar = bradley_terry(chosen, rejected, margins, self.centre)?.sum() * share;
        let scores: Vec<f64> = host(&scores.inner())?.into_iter().map(f64::from).collect();
        let (chosen, rejected) = scores.split_at(count);
        let right = chosen.iter().zip(rejected).filter(|(chosen, rejected)| chosen > rejected).count();
        let step = Step {
            loss: host(&scalar.clone().inner())?.into_iter().map(f64::from).sum(),
            grad_norm: 0.0,
            chosen: share * chosen.iter().sum::<f64>(),
            rejected: share * rejected.iter().sum::<f64>(),
            accuracy: share * right as f64,
        };
        Ok((step, scalar))
    }

    /// Scores of the chosen and of the rejected responses, `[pairs]` each; `None` when the observer asked to stop.
    pub fn scores(
        &self,
        parameters: &Parameters,
        pairs: &Pairs,
        observer: &mut dyn Observer,
    ) -> Result<Option<[Vec<f32>; 2]>, Error> {
        let model = self.with(parameters, false)?.merged();
        let mut scores = [vec![0.0; pairs.len()], vec![0.0; pairs.len()]];
        let done = in_batches(pairs, observer, |batch, rows| {
            let values = model.typed_scores(rows)?;
            batch.iter().zip(values).for_each(|(&(pair, side), score)| scores[side][pair] = score);
            Ok(())
        })?;
        Ok(done.then_some(scores))
    }

    /// Writes `model/`, and `adapter/` where there is one.
    pub fn export(
        &self,
        dir: &RunDir,
        parameters: &Parameters,
        base_name: &str,
        companions: &[(String, Vec<u8>)],
    ) -> Result<String, Error> {
        if let Some(adapter) = &self.adapter {
            let adapter = self.branches(adapter, parameters);
            for (name, bytes) in self.model.adapter_files(&adapter, parameters, base_name)? {
                dir.write(&format!("adapter/{name}"), &bytes)?;
            }
        }
        for (name, bytes) in self.with(parameters, false)?.to_files(WeightDtype::F32)? {
            dir.write(&format!("model/{name}"), &bytes)?;
        }
        for (name, bytes) in companions {
            dir.write(&format!("model/{name}"), bytes)?;
        }
        Ok("model".into())
    }
}

impl Features {
    /// Puts them into `rows`, which is empty; `None` when the observer asked to stop: then nothing is trained either.
    pub fn of(
        model: &SequenceClassifier,
        pairs: &Pairs,
        mut rows: RowFile<Vec<u32>>,
        observer: &mut dyn Observer,
    ) -> Result<Option<Self>, Error> {
        let mut places = vec![[0; 2]; pairs.len()];
        let done = in_batches(pairs, observer, |batch, read| {
            let read = model.features(read)?;
            let width = read.dims()[1];
            let values = host(&read.reshape([batch.len() * width]))?;
            for (&(pair, side), values) in batch.iter().zip(values.chunks_exact(width)) {
                places[pair][side] = rows.len() as u32;
                rows.push(&values.iter().map(|value| value.to_bits()).collect())?;
            }
            Ok(())
        })?;
        Ok(done.then_some(Self { rows, places }))
    }

    /// Of these pairs, the chosen sides first.
    pub fn some(&self, pairs: &[usize]) -> Result<Vec<Vec<f32>>, Error> {
        let row = |row: u32| -> Result<Vec<f32>, Error> {
            Ok(self.rows.get(row as usize)?.into_iter().map(f32::from_bits).collect())
        };
        let side = |side: usize| pairs.iter().map(move |&pair| self.places[pair][side]);
        side(0).chain(side(1)).map(row).collect()
    }
}

/// A row as a model reads it.
fn typed(row: &PairIds) -> (&[u32], &[u32]) {
    (&row.ids, &row.types)
}

/// Both sides of all pairs, short ones first, in batches of [`Trained::TOKENS`]; `false` when the observer asked to stop.
fn in_batches(
    pairs: &Pairs,
    observer: &mut dyn Observer,
    mut each: impl FnMut(&[(usize, usize)], &[(&[u32], &[u32])]) -> Result<(), Error>,
) -> Result<bool, Error> {
    let length = |&(pair, side): &(usize, usize)| pairs.length(pair, side);
    let mut places: Vec<(usize, usize)> = (0..pairs.len()).flat_map(|pair| [(pair, 0), (pair, 1)]).collect();
    places.sort_by_key(length);
    observer.begin(Stage::Read, places.len() as u64);
    let mut start = 0;
    while start < places.len() {
        if observer.interrupted() {
            observer.end();
            return Ok(false);
        }
        let fits = |end: &usize| (end - start) * length(&places[end - 1]) <= Trained::TOKENS;
        let end =
            (start + 1..=places.len()).take_while(|end| *end == start + 1 || fits(end)).last().unwrap_or(start + 1);
        let rows = pairs.sides(&places[start..end])?;
        each(&places[start..end], &rows.iter().map(typed).collect::<Vec<_>>())?;
        start = end;
        observer.advance(start as u64);
    }
    observer.end();
    Ok(true)
}
