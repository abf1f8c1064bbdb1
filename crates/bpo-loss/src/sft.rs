use burn::tensor::Tensor;

use crate::{Error, PairLogps};

/// Supervised fine-tuning on the chosen completions: `−log π(chosen)·pairs/Σ lengths`, `[pairs]`, whose mean is the
/// mean negative log-likelihood **per token of the batch**, as TRL's `sft` has it: long completions weigh more.
///
/// **Batch-coupled** through the lengths, which are read from `policy`. As one term of a weighted sum it is the
/// regulariser of Pang et al. 2024 (RPO, arXiv:2404.19733).
///
/// # Errors
/// [`Error::LengthsMissing`] when `policy` carries no lengths.
pub fn chosen_nll(policy: &PairLogps) -> Result<Tensor<1>, Error> {
    let (lengths, _) = policy.lengths().ok_or(Error::LengthsMissing { loss: "sft" })?;
    let tokens = lengths.clone().sum().clamp_min(1.0) / policy.pairs() as f64;
    Ok(policy.chosen.clone().neg() / tokens)
}
