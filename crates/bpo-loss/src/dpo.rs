use burn::tensor::{Tensor, activation::log_sigmoid};

use crate::{Error, PairLogps, pair::log_ratio_margin};

/// Direct preference optimisation: `−(1−ε)·log σ(βρ) − ε·log σ(−βρ)`, unreduced, `[pairs]`.
///
/// `ρ` is the log-ratio margin of summed log-probs, `label_smoothing` the assumed share ε of flipped
/// labels (0 is plain DPO). Finite for every finite ρ; the gradient with respect to ρ lies in (−β, 0) for ε = 0.
///
/// Rafailov et al. 2023, arXiv:2305.18290, eq. 7; the smoothed form is Mitchell 2023 ("cDPO").
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn dpo(policy: &PairLogps, reference: &PairLogps, beta: f64, label_smoothing: f64) -> Result<Tensor<1>, Error> {
    let scaled = log_ratio_margin(policy, reference)? * beta;
    let agree = log_sigmoid(scaled.clone()).neg();
    if label_smoothing == 0.0 {
        return Ok(agree);
    }
    Ok(agree * (1.0 - label_smoothing) - log_sigmoid(scaled.neg()) * label_smoothing)
}
