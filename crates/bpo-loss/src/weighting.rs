//! Factors on a pair's loss, and weights on its tokens. Both are constants of the loss: no gradient flows through them.
use burn::tensor::{Tensor, activation::sigmoid};

use crate::{Error, PairLogps, dpo, pair::same_length};

/// OPTune's weight `σ(β₂·(r_w − r_l))`, `[pairs]`, of the annotator's score gaps `[pairs]`: pairs that differ little
/// train little. Chen et al. 2024, arXiv:2406.07657. The paper leaves β₂ open and no code was published; this form is
/// the one in circulation.
pub fn optune_weights(gaps: Tensor<1>, beta2: f64) -> Tensor<1> {
    sigmoid(gaps.detach() * beta2)
}

/// OPTune's weighted DPO: [`dpo`] times [`optune_weights`], unreduced, `[pairs]`.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy, reference and gaps hold different numbers of pairs.
pub fn optune_wdpo(
    policy: &PairLogps,
    reference: &PairLogps,
    beta: f64,
    gaps: Tensor<1>,
    beta2: f64,
) -> Result<Tensor<1>, Error> {
    same_length("pairs and score gaps", &policy.chosen, &gaps)?;
    Ok(dpo(policy, reference, beta, 0.0)? * optune_weights(gaps, beta2))
}

/// WPO's weight of one completion: `exp(mean_t(log p_t − log Σ_v p_{t,v}²))`, how likely the current policy is to write
/// it, against what it usually writes. A pair's weight is the product of both completions'. 1 for no tokens.
///
/// `logps` `[tokens]` are the policy's log-probs of the completion, `collisions` `[tokens]` are `log Σ_v p_v²` of the
/// same positions ([`Head::with_collisions`](crate::Head::with_collisions)). Zhou et al. 2024, arXiv:2406.11827, eq. 6
/// with sampled alignment; unclamped, as in TRL 1.16 (TRL 0.24 clamps at 1).
pub fn wpo_weight<F: Into<f64> + Copy>(logps: &[F], collisions: &[F]) -> f64 {
    let tokens = logps.len().min(collisions.len()).max(1) as f64;
    let sum: f64 = logps.iter().zip(collisions).map(|(&logp, &collision)| logp.into() - collision.into()).sum();
    (sum / tokens).exp()
}

/// LD-DPO's token weights of a completion of `length` tokens whose partner has `other`: 1 up to the shorter length,
/// `ld_alpha` beyond it. `ld_alpha` = 1 is plain DPO. Apply them to policy and reference alike, as TRL 1.16 does.
///
/// Liu et al. 2024, arXiv:2409.06411, eq. 9.
pub fn ld_token_weights(length: usize, other: usize, ld_alpha: f64) -> impl Iterator<Item = f64> {
    (0..length).map(move |token| if token < other { 1.0 } else { ld_alpha })
}
