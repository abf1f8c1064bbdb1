//! The losses that a language model discovered in DiscoPOP (Lu et al. 2024, arXiv:2406.08414, table 1 and the
//! authors' code). `l = βρ`; `_old` forms take their statistics of ρ, as at discovery with β = 0.05, the others of
//! `z = l/0.05`. Products of exponentials and sigmoids are taken in log space: finite wherever the limit is.
use std::f64::consts::LN_2;

use burn::tensor::{
    Tensor,
    activation::{relu, sigmoid},
};

use crate::{
    Error, PairLogps, log_ratio_margin,
    stable::{deviation, log_sigmoid, logistic, softplus, variance, with_slope},
};

/// β at discovery.
const BETA: f64 = 0.05;

/// Whether a discovered loss's own statistics scale with β.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Of βρ/0.05, as in the authors' released code.
    Current,
    /// Of ρ, as at discovery; the same thing at β = 0.05 (but for AQL and PFL, see there).
    Old,
}

impl Form {
    fn statistic(self, rho: &Tensor<1>, beta: f64) -> Tensor<1> {
        match self {
            Self::Current => rho.clone() * (beta / BETA),
            Self::Old => rho.clone(),
        }
    }
}

/// Log-ratio modulated loss with temperature τ, TRL's `discopop`:
/// `(1−m)·softplus(−l) + m·e⁻ˡ` with `m = σ(l/τ)`, unreduced, `[pairs]`.
///
/// Not convex, and **its gradient at ρ = 0 points the wrong way** (+0.784β per nat at τ = 0.05): between its minimum
/// at l = −0.119 and its barrier at +0.072 it lowers the margin. A policy that equals its reference at every step
/// (BPO at F = T with one adapter) is trained against the verdicts.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn discopop(policy: &PairLogps, reference: &PairLogps, beta: f64, tau: f64) -> Result<Tensor<1>, Error> {
    let l = log_ratio_margin(policy, reference)? * beta;
    Ok(modulated(l, tau.recip()))
}

/// LRML, "the" DiscoPOP loss: [`discopop`] at τ = 0.05; the old form modulates by `σ(ρ)`.
///
/// # Errors
/// As [`discopop`].
pub fn lrml(policy: &PairLogps, reference: &PairLogps, beta: f64, form: Form) -> Result<Tensor<1>, Error> {
    let l = log_ratio_margin(policy, reference)? * beta;
    let k = match form {
        Form::Current => BETA.recip(),
        Form::Old => beta.recip(),
    };
    Ok(modulated(l, k))
}

/// `(1 − m)·softplus(−l) + m·e⁻ˡ` with `m = σ(k·l)`, value and slope from three exponentials. `m·e⁻ˡ` is taken as
/// `e^{min(kl, 0) − l}/(1 + e^{−|kl|})`: as a product it would be 0·∞ far left.
fn modulated(l: Tensor<1>, k: f64) -> Tensor<1> {
    let at = l.clone().inner();
    let z = at.clone() * k;
    let small = z.clone().abs().neg().exp();
    let larger = (small.clone() + 1.0).recip();
    let smaller = small * larger.clone();
    let left = z.clone().lower_elem(0.0);
    let exponential = (z.clamp_max(0.0) - at.clone()).exp() * larger.clone();
    let m = larger.clone().mask_where(left.clone(), smaller.clone());
    let rest = smaller.mask_where(left, larger);
    let (softplus, sigmoid) = logistic(at);
    let value = rest.clone() * softplus.clone() + exponential.clone();
    let slope = exponential * (rest.clone() * k - 1.0) - rest * (softplus * m * k + sigmoid);
    with_slope(l, value, slope)
}

/// Adaptive quantile loss: `w·softplus(−l) + (1−w)·max(0, 1−l)` with `q = ½ + 0.01·(σ(mean z) − ½)` and
/// `w = σ(−(z − q))`, unreduced, `[pairs]`; the old form has `w = σ(−β(ρ − q))`.
///
/// **Batch-coupled** through the mean. The current form's gradient at ρ = 0 points the wrong way (+0.750β per nat), as
/// [`discopop`]'s; beyond l = 1 it tends to 0.
///
/// # Errors
/// As [`discopop`].
pub fn aql(policy: &PairLogps, reference: &PairLogps, beta: f64, form: Form) -> Result<Tensor<1>, Error> {
    let rho = log_ratio_margin(policy, reference)?;
    let z = form.statistic(&rho, beta);
    let q = (sigmoid(z.clone().mean()) - 0.5) * 0.01 + 0.5;
    let scale = match form {
        Form::Current => 1.0,
        Form::Old => beta,
    };
    Ok(blended(rho * beta, (q - z) * scale))
}

/// Adaptive quantile feedback loss: [`aql`]'s blend with `w = σ(0.1·|z − q|)`, where `q = std(z)·mean(σ(−z))` moved
/// 0.05 of the way to `σ(mean z)`, unreduced, `[pairs]`.
///
/// **Batch-coupled** through an unbiased standard deviation: undefined on one pair.
///
/// # Errors
/// [`Error::BatchTooSmall`] with fewer than two pairs; otherwise as [`discopop`].
pub fn aqfl(policy: &PairLogps, reference: &PairLogps, beta: f64, form: Form) -> Result<Tensor<1>, Error> {
    let rho = log_ratio_margin(policy, reference)?;
    Error::unless_pairs("aqfl", policy.pairs(), 2)?;
    let z = form.statistic(&rho, beta);
    let q = deviation(&z) * sigmoid(z.clone().neg()).mean();
    let q = q.clone() * 0.95 + sigmoid(z.clone().mean()) * 0.05;
    Ok(blended(rho * beta, (z - q).abs() * 0.1))
}

/// `σ(v)·softplus(−l) + (1 − σ(v))·max(0, 1 − l)`.
fn blended(l: Tensor<1>, v: Tensor<1>) -> Tensor<1> {
    sigmoid(v.clone()) * softplus(l.clone().neg()) + sigmoid(v.neg()) * relu(l.neg() + 1.0)
}

/// Performance-adaptive decay logistic loss: `0.9·softplus(−l)`, halved where ρ < 0, unreduced, `[pairs]`.
///
/// Wrong pairs get **half** the weight, and the loss jumps at ρ = 0, where it counts as right.
///
/// # Errors
/// As [`discopop`].
pub fn padll(policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
    let rho = log_ratio_margin(policy, reference)?;
    let wrong = rho.clone().lower_elem(0.0);
    let loss = softplus((rho * beta).neg()) * 0.9;
    Ok(loss.clone().mask_where(wrong, loss * 0.5))
}

/// Combined exponential and logistic loss: `½·e⁻ˡ + ½·softplus(−l)`, unreduced, `[pairs]`.
///
/// The exponential overflows f32 below l = −88.
///
/// # Errors
/// As [`discopop`].
pub fn cell(policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
    let l = log_ratio_margin(policy, reference)? * beta;
    let opposite = l.neg();
    // ½ inside the exponent: it overflows later.
    Ok((opposite.clone() - LN_2).exp() + softplus(opposite) * 0.5)
}

/// Dynamic blended adaptive quantile loss: `w·softplus(−l/0.9) + (1−w)·e^{−0.9·l}` with `w = σ(var z)`,
/// unreduced, `[pairs]`.
///
/// **Batch-coupled** through an unbiased variance, which has a gradient: undefined on one pair.
///
/// # Errors
/// [`Error::BatchTooSmall`] with fewer than two pairs; otherwise as [`discopop`].
pub fn dbaql(policy: &PairLogps, reference: &PairLogps, beta: f64, form: Form) -> Result<Tensor<1>, Error> {
    let rho = log_ratio_margin(policy, reference)?;
    Error::unless_pairs("dbaql", policy.pairs(), 2)?;
    let spread = variance(&form.statistic(&rho, beta));
    let l = rho * beta;
    let logistic = softplus(l.clone() * (-1.0 / 0.9)) * sigmoid(spread.clone());
    Ok(logistic + (log_sigmoid(spread.neg()) - l * 0.9).exp())
}

/// Policy focused loss: `½·softplus(−l)` where the policy alone ranks the pair right (pc > pr), else
/// `2·max(0, 1−l)`, unreduced, `[pairs]`; the old form has ρ for l, without β.
///
/// The condition does not look at the reference.
///
/// # Errors
/// As [`discopop`].
pub fn pfl(policy: &PairLogps, reference: &PairLogps, beta: f64, form: Form) -> Result<Tensor<1>, Error> {
    let rho = log_ratio_margin(policy, reference)?;
    let l = match form {
        Form::Current => rho * beta,
        Form::Old => rho,
    };
    let right = policy.margin().greater_elem(0.0);
    let wrong = relu(l.clone().neg() + 1.0) * 2.0;
    Ok(wrong.mask_where(right, softplus(l.neg()) * 0.5))
}
