use burn::tensor::{Tensor, activation::relu};

use crate::{Error, PairLogps, log_ratio_margin};

/// SLiC's hinge on the log-ratio margin: `max(0, 1 − βρ)`, unreduced, `[pairs]`.
///
/// The gradient with respect to ρ is −β below the hinge and 0 at and above it. Zhao et al. 2023,
/// arXiv:2305.10425, in the reference-normalised form of Liu et al. 2023 (RSO, arXiv:2309.06657).
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn slic_hinge(policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
    Ok(relu((log_ratio_margin(policy, reference)? * beta).neg() + 1.0))
}
