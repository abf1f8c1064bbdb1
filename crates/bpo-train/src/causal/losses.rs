//! The loss of a step and its slopes by score, over all of its texts together.
use bpo_loss::{GeneratedTexts, LoggedTexts, OfficialCausal, OfficialTexts, doubly_robust, ipw};
use burn::tensor::{Device, Tensor, TensorData};

use crate::{CausalEstimator, CausalForm, CausalRecipe, Error, score::host};

/// The numbers of a step's sequences. Outcomes and predictions are scaled; with the textbook form higher is better.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch {
    /// Texts, `[n]`: Σ log P^R (textbook) or the start's raw-logit score (official).
    pub logging: Vec<f32>,
    /// `[n]`.
    pub outcomes: Vec<f32>,
    /// ĝ of the texts, `[n]`; 0 where there is none.
    pub predicted: Vec<f32>,
    /// The start's scores of the samples, `[m]`; only the official form reads them.
    pub drawn: Vec<f32>,
    /// ĝ of the samples, `[m]`.
    pub drawn_predicted: Vec<f32>,
    /// Training texts in the run: the official form's `pr_scale`.
    pub rows: usize,
}

/// A loss and its slopes.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses {
    pub value: f64,
    /// dL/d(score) of the texts, `[n]`.
    pub texts: Vec<f32>,
    /// Of the samples, `[m]`.
    pub samples: Vec<f32>,
}

impl Batch {
    /// The loss at the policy's scores of texts `[n]` and samples `[m]`.
    pub fn losses(
        &self,
        recipe: &CausalRecipe,
        (texts, samples): (&[f32], &[f32]),
        device: &Device,
    ) -> Result<Losses, Error> {
        let device = device.clone().autodiff();
        let row = |values: &[f32]| -> Tensor<1> {
            Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &device)
        };
        let (texts, samples) = (row(texts).require_grad(), row(samples).require_grad());
        let loss = match recipe.causal_form {
            CausalForm::Textbook => self.textbook(recipe, &texts, &samples, row)?,
            CausalForm::Official => self.official(recipe, &texts, &samples, row)?,
        };
        let value = host(&loss.clone().inner())?.iter().map(|&value| f64::from(value)).sum();
        let gradients = loss.backward();
        let slopes = |leaf: &Tensor<1>| -> Result<Vec<f32>, Error> {
            leaf.grad(&gradients).map_or_else(|| Ok(vec![0.0; leaf.dims()[0]]), |gradient| host(&gradient))
        };
        Ok(Losses { value, texts: slopes(&texts)?, samples: slopes(&samples)? })
    }

    fn textbook(
        &self,
        recipe: &CausalRecipe,
        texts: &Tensor<1>,
        samples: &Tensor<1>,
        row: impl Fn(&[f32]) -> Tensor<1>,
    ) -> Result<Tensor<1>, Error> {
        let (importance, logging, outcomes) = (recipe.importance(), row(&self.logging), row(&self.outcomes));
        if recipe.causal_estimator == CausalEstimator::Ipw {
            return Ok(ipw(texts.clone(), logging, outcomes, &importance)?.mean());
        }
        let logged = LoggedTexts {
            policy_logps: texts.clone(),
            logging_logps: logging,
            outcomes,
            predicted: row(&self.predicted),
        };
        // The policy drew them itself: the ratio is 1, not 1 up to the rounding of another forward pass.
        let generator_logps = samples.clone().detach();
        let generated =
            GeneratedTexts { policy_logps: samples.clone(), generator_logps, predicted: row(&self.drawn_predicted) };
        Ok(doubly_robust(logged, generated, &importance, true)?.total())
    }

    fn official(
        &self,
        recipe: &CausalRecipe,
        texts: &Tensor<1>,
        samples: &Tensor<1>,
        row: impl Fn(&[f32]) -> Tensor<1>,
    ) -> Result<Tensor<1>, Error> {
        let official = OfficialCausal {
            c_ipw: recipe.c_ipw,
            c_rlhf: recipe.c_rlhf,
            pr_scale: self.rows as f64,
            stabilise: recipe.ratio_clip,
            higher_outcome_better: recipe.higher_outcome_better,
        };
        let first =
            OfficialTexts { scores: texts.clone(), start_scores: row(&self.logging), predicted: row(&self.predicted) };
        let second = OfficialTexts {
            scores: samples.clone(),
            start_scores: row(&self.drawn),
            predicted: row(&self.drawn_predicted),
        };
        let paired = recipe.causal_estimator == CausalEstimator::Dr;
        let losses = official.losses(&first, &row(&self.outcomes), paired.then_some(&second))?;
        Ok(OfficialCausal::mean(losses))
    }
}
