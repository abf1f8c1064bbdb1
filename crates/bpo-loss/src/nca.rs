use burn::tensor::Tensor;

use crate::{Error, PairLogps, stable::log_sigmoid};

/// Noise-contrastive alignment of a pair: `−log σ(a) − ½·log σ(−a) − ½·log σ(−c)` with `a = β·lrc`,
/// `c = β·lrr`, unreduced, `[pairs]`.
///
/// Far above the reference the chosen completion is pulled back (gradient +½ in `a`): its likelihood stays bounded.
/// Chen et al. 2024, arXiv:2402.05369, eq. 9 with two responses.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn nca_pair(policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
    let PairLogps { chosen, rejected, .. } = policy.log_ratios(reference)?.map(|ratio| ratio * beta);
    // log σ(−a) is log σ(a) − a.
    let of_chosen = chosen.clone() * 0.5 - log_sigmoid(chosen) * 1.5;
    Ok(of_chosen - log_sigmoid(rejected.neg()) * 0.5)
}
