use burn::tensor::{Tensor, activation::sigmoid};

use crate::{Error, PairLogps};

/// Kahneman–Tversky optimisation of pairs, `[2·pairs]`: first `1 − σ(β·(lrc − [mean lrr]₊))` of the chosen
/// completions, then `1 − σ(β·([mean lrc]₊ − lrr))` of the rejected ones.
///
/// **Batch-coupled**: the batch means estimate the KL, and gradients flow through them, as in the BPO and DiscoPOP
/// code. Ethayarajh et al. 2024, arXiv:2402.01306, eq. 7, in the paired form of TRL up to 0.9.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn kto_pair(policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
    let ratios = policy.log_ratios(reference)?;
    let kl = |ratios: &Tensor<1>| ratios.clone().mean().clamp_min(0.0);
    let (chosen_kl, rejected_kl) = (kl(&ratios.chosen), kl(&ratios.rejected));
    let chosen = sigmoid((rejected_kl - ratios.chosen) * beta);
    let rejected = sigmoid((ratios.rejected - chosen_kl) * beta);
    Ok(Tensor::cat(vec![chosen, rejected], 0))
}
