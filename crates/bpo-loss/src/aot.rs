use burn::tensor::Tensor;

use crate::{Error, PairLogps, dpo::smoothed};

/// Alignment by optimal transport on paired margins: [`dpo`](crate::dpo)'s loss of
/// `sort(pc − pr) − sort(rc − rr)`, `[pairs]` **in sorted order**, not by pair.
///
/// **Batch-coupled**: the sorted margins of the policy are set against those of the reference over the whole
/// batch, so that the policy's distribution of margins dominates the reference's at every quantile. With one
/// pair it is DPO. Melnyk et al. 2024, arXiv:2406.05882, section 3.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn aot(policy: &PairLogps, reference: &PairLogps, beta: f64, label_smoothing: f64) -> Result<Tensor<1>, Error> {
    policy.log_ratios(reference)?;
    let violation = sorted(policy.margin()) - sorted(reference.margin());
    Ok(smoothed(violation * beta, label_smoothing))
}

/// Alignment by optimal transport without pairs: [`dpo`](crate::dpo)'s loss of `sort(lrc) − sort(lrr)`, `[pairs]`
/// **in sorted order**; `aot_pair` in TRL up to 0.24.
///
/// **Batch-coupled**: chosen and rejected log-ratios are matched by rank over the batch, not by prompt.
/// Melnyk et al. 2024, arXiv:2406.05882, section 3.
///
/// # Errors
/// As [`aot`].
pub fn aot_unpaired(
    policy: &PairLogps,
    reference: &PairLogps,
    beta: f64,
    label_smoothing: f64,
) -> Result<Tensor<1>, Error> {
    let ratios = policy.log_ratios(reference)?;
    Ok(smoothed((sorted(ratios.chosen) - sorted(ratios.rejected)) * beta, label_smoothing))
}

/// Ascending; the gradient follows each value to where it came from.
pub(crate) fn sorted(x: Tensor<1>) -> Tensor<1> {
    let order = x.clone().inner().argsort(0);
    x.select(0, order)
}
