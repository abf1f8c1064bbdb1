use burn::tensor::{Int, Tensor};

use super::softmax;
use crate::{Error, pair::same_length};

/// The loss of the authors' code (`trainer.py`, `bias_corrected_rlhf_loss`), which is not the paper's estimator:
///
/// * a text's score is the sum of its **raw logits at unshifted positions** ([`raw_logit_scores`]), no log-prob;
/// * the "ratio" is a **softmax over the batch** of score − start score; of a batch of one it is 1, without gradient;
/// * it is multiplied by a second batch softmax, of the start scores, and divided by `pr_scale` (their stored
///   normaliser cancels);
/// * the outcome model's term reads a second, stored text of each row, not samples of the moving policy; without
///   second texts ĝ cancels where `c_ipw = c_rlhf`.
///
/// Their entropy bonus and `--norm_*`, `--use_pr_est` options are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OfficialCausal {
    /// Weight of the logged texts' residual term.
    pub c_ipw: f64,
    /// Weight of the outcome model's term.
    pub c_rlhf: f64,
    /// Divides the logged texts' weights; the authors use the number of rows.
    pub pr_scale: f64,
    /// `--stabilize`: each term is the smaller of itself and itself with a weight clamped to these bounds.
    pub stabilise: Option<[f64; 2]>,
    /// `--higheroutcomebetter`: without it the loss is the value itself, which training lowers.
    pub higher_outcome_better: bool,
}

impl OfficialCausal {
    /// The bounds of `--stabilize`.
    pub const STABILISE: [f64; 2] = [0.8, 1.2];
}

/// One text per row as the authors' code sees it, `[n]` each.
#[derive(Debug, Clone)]
pub struct OfficialTexts {
    /// Scores under the policy, differentiable.
    pub scores: Tensor<1>,
    /// Scores under the model the run started from.
    pub start_scores: Tensor<1>,
    /// ĝ of the text.
    pub predicted: Tensor<1>,
}

impl OfficialTexts {
    fn check(&self, rows: usize) -> Result<(), Error> {
        same_length("scores and start scores", &self.scores, &self.start_scores)?;
        same_length("scores and predicted outcomes", &self.scores, &self.predicted)?;
        let texts = self.scores.dims()[0];
        let what = "outcomes and texts";
        if texts == rows { Ok(()) } else { Err(Error::LengthMismatch { what, left: rows, right: texts }) }
    }

    /// `[n]`, softmax over the batch of score − start score.
    fn ratios(&self) -> Tensor<1> {
        softmax(self.scores.clone() - self.start_scores.clone())
    }
}

impl OfficialCausal {
    /// Unreduced losses, `[n]`; `texts` have `outcomes` `[n]`, `second` are the stored second texts, with which the
    /// code calls itself paired (and doubly robust). [`OfficialCausal::mean`] reduces them.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`].
    pub fn losses(
        &self,
        texts: &OfficialTexts,
        outcomes: &Tensor<1>,
        second: Option<&OfficialTexts>,
    ) -> Result<Tensor<1>, Error> {
        let rows = outcomes.dims()[0];
        texts.check(rows)?;
        // Times the reciprocal: the backward pass of a division by a number is in f32, whatever the tensor is.
        let weights = texts.ratios() * softmax(texts.start_scores.clone()) * self.pr_scale.recip();
        let residual = outcomes.clone() - texts.predicted.clone();
        let logged = self.stabilised(&weights, &residual, &residual);
        let model = match second {
            Some(second) => {
                second.check(rows)?;
                self.stabilised(&second.ratios(), &second.predicted, &second.predicted)
            }
            // The clamped weight multiplies the outcome, not its prediction: so it is in the code.
            None => self.stabilised(&weights, &texts.predicted, outcomes),
        };
        let value = model * self.c_rlhf + logged * self.c_ipw;
        Ok(if self.higher_outcome_better { value.neg() } else { value })
    }

    /// The mean, `[1]`, over losses that are neither NaN nor +∞ (torch's `nanmean(loss[loss != inf])`); NaN when
    /// there is none.
    pub fn mean(losses: Tensor<1>) -> Tensor<1> {
        let left_out = losses.clone().is_nan().bool_or(losses.clone().equal_elem(f32::INFINITY));
        let kept = left_out.clone().bool_not().float().sum().cast(losses.dtype());
        losses.mask_fill(left_out, 0.0).sum() / kept
    }

    /// The smaller of `weights · values` and clamped weights `· clamped_values`, element by element.
    fn stabilised(&self, weights: &Tensor<1>, values: &Tensor<1>, clamped_values: &Tensor<1>) -> Tensor<1> {
        let plain = weights.clone() * values.clone();
        let Some([low, high]) = self.stabilise else { return plain };
        let (above, below) = (weights.clone().greater_elem(high), weights.clone().lower_elem(low));
        let clamped = weights.clone().mask_fill(above, high).mask_fill(below, low) * clamped_values.clone();
        let is_smaller = clamped.clone().lower(plain.clone());
        plain.mask_where(is_smaller, clamped)
    }
}

/// The authors' score of a text: `Σ_t logits[t, id_t]`, `[batch]`, the logit of each token at its **own** position,
/// which predicts the next one. `logits`: `[batch, time, vocab]`; `ids`: `[batch, time]`.
pub fn raw_logit_scores(logits: Tensor<3>, ids: Tensor<2, Int>) -> Tensor<1> {
    let chosen: Tensor<2> = logits.gather(2, ids.unsqueeze_dim(2)).squeeze_dim(2);
    chosen.sum_dim(1).squeeze_dim(1)
}
