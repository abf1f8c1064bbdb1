use burn::tensor::Tensor;

use crate::{Error, PairLogps, log_ratio_margin, stable::log_sigmoid};

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
    Ok(smoothed(log_ratio_margin(policy, reference)? * beta, label_smoothing))
}

/// [`dpo`] on log-ratios averaged over each completion's tokens: `−log σ(β·(lrc/Lc − lrr/Lr))`; TRL's `sigmoid_norm`.
///
/// Lengths are read from `policy`; a completion of length 0 counts as length 1. Meng et al. 2024 (SimPO,
/// arXiv:2405.14734) argue for the averaging; unlike theirs, this form keeps the reference.
///
/// # Errors
/// [`Error::LengthsMissing`] when `policy` carries no lengths; otherwise as [`dpo`].
pub fn dpo_averaged(policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
    let ratios = policy.log_ratios(reference)?.averaged("sigmoid_norm")?;
    Ok(smoothed(ratios.margin() * beta, 0.0))
}

/// DPO made unbiased under a known share ε of flipped labels:
/// `(−(1−ε)·log σ(βρ) + ε·log σ(−βρ)) / (1 − 2ε)`, unreduced, `[pairs]`.
///
/// Unbounded below: as ρ → ∞ the gradient tends to −βε/(1−2ε), it never stops pushing.
/// Chowdhury et al. 2024, arXiv:2403.00409, eq. 9.
///
/// # Errors
/// As [`dpo`].
pub fn robust_dpo(
    policy: &PairLogps,
    reference: &PairLogps,
    beta: f64,
    label_smoothing: f64,
) -> Result<Tensor<1>, Error> {
    let x = log_ratio_margin(policy, reference)? * beta;
    // As in `smoothed`, divided by 1 − 2ε.
    Ok(log_sigmoid(x.clone()).neg() - x * (label_smoothing / (1.0 - 2.0 * label_smoothing)))
}

/// `−(1−ε)·log σ(x) − ε·log σ(−x)`, which is `−log σ(x) + ε·x`: log σ(−x) is log σ(x) − x.
pub(crate) fn smoothed(x: Tensor<1>, label_smoothing: f64) -> Tensor<1> {
    let agree = log_sigmoid(x.clone()).neg();
    if label_smoothing == 0.0 { agree } else { agree + x * label_smoothing }
}
