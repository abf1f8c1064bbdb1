use burn::tensor::Tensor;

use crate::{Error, PairLogps};

/// Self-play preference optimisation with hard labels: `(lrc − 1/(2β))² + (lrr + 1/(2β))²`, unreduced, `[pairs]`.
///
/// Linear gradients without bound on both sides. Wu et al. 2024, arXiv:2405.00675, eq. 4.7 with P(w ≻ l) = 1.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn sppo_hard(policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
    let target = 1.0 / (2.0 * beta);
    let ratios = policy.log_ratios(reference)?;
    Ok((ratios.chosen - target).square() + (ratios.rejected + target).square())
}
