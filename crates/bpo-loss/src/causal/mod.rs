//! Causal preference optimisation: policy values from texts with numeric outcomes (Lin et al. 2024,
//! arXiv:2402.14979), by importance weighting and doubly robust. `official` is what the authors' code computes.
mod metrics;
mod official;

pub use metrics::ImportanceMetrics;
pub use official::{OfficialCausal, OfficialTexts, raw_logit_scores};

use burn::tensor::Tensor;

use crate::{Error, pair::same_length};

/// What is made of the ratios r = P^f(X)/P^R(X) before they weigh anything.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Importance {
    /// Divide by the batch's mean ratio (Hájek): a little biased, of far smaller variance. The texts of the batch
    /// then depend on each other.
    pub self_normalised: bool,
    /// Ratios below the first number count as the first, those above the second as the second; a clipped ratio
    /// has no gradient.
    pub ratio_clip: Option<[f64; 2]>,
}

impl Importance {
    /// Checks the clipping bounds.
    ///
    /// # Errors
    /// [`Error::BadHyperparameter`] naming the key.
    pub fn validate(&self) -> Result<(), Error> {
        match self.ratio_clip {
            Some([low, high]) if !(low.is_finite() && high.is_finite() && low >= 0.0 && high > 0.0 && low <= high) => {
                let requirement = "must be two finite numbers, 0 ≤ low ≤ high, high > 0";
                let value = if low.is_finite() && low >= 0.0 { high } else { low };
                Err(Error::BadHyperparameter { name: "ratio_clip", value, requirement })
            }
            _ => Ok(()),
        }
    }

    /// `weight · values`, `[n]` from `log_ratios` and `values` `[n]`. Finite wherever the product is finite in the
    /// number format, even where the ratio alone is not.
    fn weighted(&self, log_ratios: Tensor<1>, values: Tensor<1>) -> Tensor<1> {
        let log_ratios = self.clipped(log_ratios);
        if self.self_normalised {
            let count = values.dims()[0] as f64;
            return softmax(log_ratios) * values * count;
        }
        // √r twice: r overflows in f32 at a log-ratio of 88.7, r·value perhaps not.
        let root = (log_ratios * 0.5).exp();
        root.clone() * values * root
    }

    fn clipped(&self, log_ratios: Tensor<1>) -> Tensor<1> {
        let Some([low, high]) = self.ratio_clip else { return log_ratios };
        let (above, below) = (log_ratios.clone().greater_elem(high.ln()), log_ratios.clone().lower_elem(low.ln()));
        let clipped = log_ratios.mask_fill(above, high.ln());
        if low > 0.0 { clipped.mask_fill(below, low.ln()) } else { clipped }
    }
}

/// Inverse propensity weighting ("CPO"): `−r·Y`, unreduced, `[n]`; minus its mean estimates the value
/// V(f) = E_{X~P^f} Y of the policy. Differentiable in `policy_logps`; the gradient of a text is `−r·Y`.
///
/// `policy_logps`: `[n]`, Σ log P^f of each text; `logging_logps`: `[n]`, the same under the policy P^R that wrote
/// the texts; `outcomes`: `[n]`, Y, the higher the better.
///
/// Lin et al. 2024, arXiv:2402.14979 (the IPW estimator); self-normalised: Hájek 1971.
///
/// # Errors
/// [`Error::LengthMismatch`], or [`Error::BadHyperparameter`] for bad clipping bounds.
pub fn ipw(
    policy_logps: Tensor<1>,
    logging_logps: Tensor<1>,
    outcomes: Tensor<1>,
    importance: &Importance,
) -> Result<Tensor<1>, Error> {
    importance.validate()?;
    same_length("policy and logging log-probs", &policy_logps, &logging_logps)?;
    same_length("policy log-probs and outcomes", &policy_logps, &outcomes)?;
    Ok(importance.weighted(policy_logps - logging_logps, outcomes).neg())
}

/// Texts that were logged with their outcomes, `[n]` each.
#[derive(Debug, Clone)]
pub struct LoggedTexts {
    /// Σ log P^f, differentiable.
    pub policy_logps: Tensor<1>,
    /// Σ log P^R of the policy that wrote them.
    pub logging_logps: Tensor<1>,
    /// Y.
    pub outcomes: Tensor<1>,
    /// ĝ(X): what an outcome model expects of them.
    pub predicted: Tensor<1>,
}

/// Texts drawn from a policy, without outcomes, `[m]` each.
#[derive(Debug, Clone)]
pub struct GeneratedTexts {
    /// Σ log P^f, differentiable.
    pub policy_logps: Tensor<1>,
    /// Σ log-prob under the policy that drew them. When that is the policy itself, these are the values of
    /// `policy_logps` (without their graph): the ratio is 1 and its gradient the score function.
    pub generator_logps: Tensor<1>,
    /// ĝ(X).
    pub predicted: Tensor<1>,
}

/// Both terms of the doubly robust loss, unreduced.
#[derive(Debug, Clone)]
pub struct DoublyRobust {
    /// `[n]`, `−r·(Y − ĝ(X))` of the logged texts.
    pub residual: Tensor<1>,
    /// `[m]`, `−r'·ĝ(X')` of the generated ones.
    pub model: Tensor<1>,
}

impl DoublyRobust {
    /// The loss: the sum of the two means; minus it estimates V(f).
    pub fn total(self) -> Tensor<1> {
        self.residual.mean() + self.model.mean()
    }
}

/// Doubly robust value ("DR-CPO"): `r·(Y − ĝ(X))` on logged texts plus `E_{X'~P^f} ĝ(X')` on generated ones, as
/// losses. Unbiased when either the ratios or ĝ are right.
///
/// The second term is [`model_value`]. Lin et al. 2024, arXiv:2402.14979 (exact form from memory of the paper;
/// Dudík et al. 2011, arXiv:1103.4601, section 3).
///
/// # Errors
/// As [`ipw`].
pub fn doubly_robust(
    logged: LoggedTexts,
    generated: GeneratedTexts,
    importance: &Importance,
    baseline: bool,
) -> Result<DoublyRobust, Error> {
    same_length("outcomes and predicted outcomes", &logged.outcomes, &logged.predicted)?;
    let residual = logged.outcomes - logged.predicted;
    let residual = ipw(logged.policy_logps, logged.logging_logps, residual, importance)?;
    Ok(DoublyRobust { residual, model: model_value(generated, baseline)? })
}

/// A surrogate of −E_{X~P^f} ĝ(X), unreduced, `[m]`: `−(r·(ĝ − b) + b)` with r = P^f/(the policy that drew X).
///
/// For texts of the current policy r = 1: the value is −ĝ and the gradient that of the score-function estimator
/// (REINFORCE), ∇E ĝ = E[(ĝ − b)·∇log P^f]. `baseline` takes for b the mean ĝ of the *other* texts (0 without, or
/// with a single text), which leaves the expectation as it is (Kool et al. 2019; Williams 1992).
///
/// # Errors
/// [`Error::LengthMismatch`].
pub fn model_value(generated: GeneratedTexts, baseline: bool) -> Result<Tensor<1>, Error> {
    let GeneratedTexts { policy_logps, generator_logps, predicted } = generated;
    same_length("policy and generator log-probs", &policy_logps, &generator_logps)?;
    same_length("policy log-probs and predicted outcomes", &policy_logps, &predicted)?;
    let (log_ratios, count, plain) = (policy_logps - generator_logps, predicted.dims()[0], Importance::default());
    if !baseline || count < 2 {
        return Ok(plain.weighted(log_ratios, predicted).neg());
    }
    let others = (predicted.clone().sum().expand([count]) - predicted.clone()) * ((count - 1) as f64).recip();
    Ok((plain.weighted(log_ratios, predicted - others.clone()) + others).neg())
}

/// `[n]`, exp(x)/Σ exp(x) without overflow.
fn softmax(values: Tensor<1>) -> Tensor<1> {
    let count = values.dims()[0];
    let shifted = values.clone() - values.detach().max().expand([count]);
    let powers = shifted.exp();
    powers.clone() / powers.sum().expand([count])
}
