use burn::tensor::Tensor;

use crate::{Error, PairLogps, log_ratio_margin};

/// Identity preference optimisation on **summed** log-probs: `(ρ − 1/(2β))²`, unreduced, `[pairs]`.
///
/// Azar et al. 2023, arXiv:2310.12036, eq. 17 (their τ is β). TRL's online trainers and DiscoPOP use
/// this form; see [`ipo_averaged`] for the length-averaged one.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn ipo(policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
    Ok((log_ratio_margin(policy, reference)? - 1.0 / (2.0 * beta)).square())
}

/// [`ipo`] on log-probs averaged over each completion's tokens, as TRL's `DPOTrainer` and the authors'
/// BPO code have it: the target margin `1/(2β)` is then in nats **per token**.
///
/// Lengths are read from `policy`; a completion of length 0 counts as length 1.
///
/// # Errors
/// [`Error::LengthsMissing`] when `policy` carries no lengths.
pub fn ipo_averaged(policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
    let ratios = policy.log_ratios(reference)?.averaged("ipo")?;
    Ok((ratios.margin() - 1.0 / (2.0 * beta)).square())
}
