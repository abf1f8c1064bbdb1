use burn::tensor::Tensor;

use crate::{Error, PairLogps, stable::sigmoid};

/// Anchored preference optimisation, "zero": `1 − σ(β·lrc) + σ(β·lrr)`, unreduced, `[pairs]`.
///
/// Raises the chosen and lowers the rejected completion; for a policy worse than its data. The gradient is
/// largest (β/4) at the reference and vanishes far from it. D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn apo_zero(policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
    let PairLogps { chosen, rejected, .. } = policy.log_ratios(reference)?;
    let wrong = PairLogps::new(chosen * -beta, rejected * beta)?;
    let PairLogps { chosen, rejected, .. } = wrong.map_together(sigmoid);
    Ok(chosen + rejected)
}

/// Anchored preference optimisation, "down": `σ(β·lrc) + 1 − σ(β·(lrc − lrr))`, unreduced, `[pairs]`.
///
/// Lowers both completions, the rejected one more; for a policy better than its data. At the reference the
/// gradient in the chosen log-ratio is 0. D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 8.
///
/// # Errors
/// As [`apo_zero`].
pub fn apo_down(policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
    let PairLogps { chosen, rejected, .. } = policy.log_ratios(reference)?.map(|ratio| ratio * beta);
    let pushed = PairLogps::new(chosen.clone(), rejected - chosen)?;
    let PairLogps { chosen, rejected, .. } = pushed.map_together(sigmoid);
    Ok(chosen + rejected)
}
