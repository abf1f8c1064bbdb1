//! Bonuses that make a policy seek what its reference finds unlikely.
use burn::tensor::Tensor;

use crate::{Error, pair::same_length};

/// SELM's term of one pair, to be added to its loss: `α·β·(log π(y′) − log π_ref(y′))`, `[pairs]`.
///
/// `y′` is one response of the reference itself (SELM: greedy). Minimising lowers its likelihood: what the policy
/// already knows makes room. The gradient in `log π(y′)` is the constant αβ, it never saturates.
/// Zhang et al. 2024, arXiv:2405.19332, eq. 7 and the authors' `optimistic_dpo_loss`.
///
/// # Errors
/// [`Error::LengthMismatch`] when the two differ in length.
pub fn selm_bonus(policy: Tensor<1>, reference: Tensor<1>, beta: f64, alpha: f64) -> Result<Tensor<1>, Error> {
    same_length("policy and reference log-probs of the response", &policy, &reference)?;
    Ok((policy - reference) * (alpha * beta))
}

/// XPO's term of one pair, to be added to its loss: `α·log π(ỹ)`, `[pairs]`, of the completion `ỹ` that the fixed
/// reference sampled. Unbounded below. The same gradient as [`selm_bonus`] with α_SELM = α/β, on another response.
///
/// Xie et al. 2024, arXiv:2405.21046, algorithm 1; the authors' β·α is TRL's and this `alpha`.
pub fn xpo_bonus(policy: Tensor<1>, alpha: f64) -> Tensor<1> {
    policy * alpha
}
