use burn::tensor::{Tensor, TensorData};

use crate::{Error, PairLogps, dpo::smoothed};

/// Alignment by optimal transport on paired margins: [`dpo`](crate::dpo)'s loss of
/// `sort(pc − pr) − sort(rc − rr)`, `[pairs]` **in sorted order**, not by pair.
///
/// **Batch-coupled**: the sorted margins of the policy are set against those of the reference over the whole
/// batch, so that the policy's distribution of margins dominates the reference's at every quantile. With one
/// pair it is DPO. Melnyk et al. 2024, arXiv:2406.05882, section 3.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs; [`Error::Unreadable`].
pub fn aot(policy: &PairLogps, reference: &PairLogps, beta: f64, label_smoothing: f64) -> Result<Tensor<1>, Error> {
    policy.log_ratios(reference)?;
    let violation = sorted(policy.margin())? - sorted(reference.margin())?;
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
    Ok(smoothed((sorted(ratios.chosen)? - sorted(ratios.rejected)?) * beta, label_smoothing))
}

/// Ascending, equal values in their order (as torch has it; burn's own sort may swap them, and with them gradients).
/// The gradient follows each value to where it came from.
fn sorted(x: Tensor<1>) -> Result<Tensor<1>, Error> {
    let device = x.device();
    let values: Vec<f64> = x.clone().inner().try_into_vec_as().map_err(|error| Error::Unreadable(error.to_string()))?;
    // Sorted as integers: the bits of a float in the order of its values, then its place.
    let mut keys: Vec<(u64, u32)> = values.iter().zip(0u32..).map(|(&value, place)| (ordered(value), place)).collect();
    keys.sort_unstable();
    let order: Vec<i64> = keys.into_iter().map(|(_, place)| i64::from(place)).collect();
    let length = order.len();
    Ok(x.select(0, Tensor::from_data(TensorData::new(order, [length]), &device)))
}

/// Bits that rise with the value (`f64::total_cmp`'s order, but the two zeros are equal).
fn ordered(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}
