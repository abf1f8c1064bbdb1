use burn::tensor::Tensor;

use crate::{Error, PairLogps, stable::with_slope};

/// Binary classifier optimisation: `−log σ(β·lrc − δ) − log σ(−(β·lrr − δ))`, unreduced, `[pairs]`.
///
/// `delta` is a constant shift of the rewards: 0 in TRL 1.16; before, the running mean of both rewards, which
/// a caller keeps. Jung et al. 2024, arXiv:2404.04656.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn bco_pair(policy: &PairLogps, reference: &PairLogps, beta: f64, delta: f64) -> Result<Tensor<1>, Error> {
    let PairLogps { chosen, rejected, .. } = policy.log_ratios(reference)?;
    // −log σ(a) − log σ(c) of the reward a and of the negated reward c has one logarithm: of (1 + e^−|a|)(1 + e^−|c|).
    let (a, c) = (chosen.clone().inner() * beta - delta, rejected.clone().inner() * -beta + delta);
    let [small_a, small_c] = [&a, &c].map(|x| x.clone().abs().neg().exp());
    let [sum_a, sum_c] = [&small_a, &small_c].map(|small| small.clone() + 1.0);
    let value = (sum_a.clone() * sum_c.clone()).log() - a.clone().clamp_max(0.0) - c.clone().clamp_max(0.0);
    let slope = |x: Tensor<1>, small: Tensor<1>, sum: Tensor<1>| small.mask_fill(x.lower_elem(0.0), 1.0) / sum;
    let value = with_slope(chosen, value, slope(a, small_a, sum_a) * -beta);
    Ok(with_slope(rejected, value, slope(c, small_c, sum_c) * beta))
}
