use burn::tensor::Tensor;

use crate::{Error, PairLogps, stable::log_sigmoid};

/// Binary classifier optimisation: `−log σ(β·lrc − δ) − log σ(−(β·lrr − δ))`, unreduced, `[pairs]`.
///
/// `delta` is a constant shift of the rewards: 0 in TRL 1.16; before, the running mean of both rewards, which
/// a caller keeps. Jung et al. 2024, arXiv:2404.04656.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn bco_pair(policy: &PairLogps, reference: &PairLogps, beta: f64, delta: f64) -> Result<Tensor<1>, Error> {
    let PairLogps { chosen, rejected, .. } = policy.log_ratios(reference)?;
    let right = PairLogps::new(chosen * beta - delta, rejected * -beta + delta)?;
    let PairLogps { chosen, rejected, .. } = right.map_together(log_sigmoid);
    Ok((chosen + rejected).neg())
}
