use burn::tensor::Tensor;

use crate::{Error, PairLogps, log_ratio_margin, stable::with_slope};

/// Exact optimisation for pairs, the reverse KL between the policy's preference and smoothed labels:
/// `q·(log q − log(1−ε)) + (1−q)·(log(1−q) − log ε)` with `q = σ(βρ)`, unreduced, `[pairs]`.
///
/// `label_smoothing` ε must lie above 0 (TRL takes 1e-3 where it is not set): without it the loss is infinite.
/// The gradient vanishes at both ends, so a badly wrong pair is left alone.
/// Ji et al. 2024, arXiv:2402.00856, eq. 16.
///
/// # Errors
/// [`Error::BadHyperparameter`] for an ε outside (0, 1); [`Error::LengthMismatch`] when policy and reference hold
/// different numbers of pairs.
pub fn exo_pair(
    policy: &PairLogps,
    reference: &PairLogps,
    beta: f64,
    label_smoothing: f64,
) -> Result<Tensor<1>, Error> {
    if !(label_smoothing > 0.0 && label_smoothing < 1.0) {
        let requirement = "exo_pair needs a value in (0, 1)";
        return Err(Error::BadHyperparameter { name: "label_smoothing", value: label_smoothing, requirement });
    }
    let x = log_ratio_margin(policy, reference)? * beta;
    let odds = (1.0 - label_smoothing).ln() - label_smoothing.ln();
    let at = x.clone().inner();
    let far = at.clone().abs();
    let small = far.clone().neg().exp();
    let sum = small.clone() + 1.0;
    let larger = sum.clone().recip();
    let smaller = small * larger.clone();
    // Σ q·log q is minus the entropy, an even function of x that is written for |x|: no large terms cancel.
    let entropy = smaller.clone() * far + sum.log();
    let q = larger.clone().mask_where(at.clone().lower_elem(0.0), smaller.clone());
    let value = (entropy + q * odds).neg() - label_smoothing.ln();
    Ok(with_slope(x, value, smaller * larger * (at - odds)))
}
