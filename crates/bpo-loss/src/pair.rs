use burn::tensor::Tensor;

use crate::Error;

/// Log-probs of the chosen and the rejected completion of every pair, each **summed** over the
/// completion's tokens. Every loss of this crate is a function of two of these: policy and reference.
#[derive(Debug, Clone)]
pub struct PairLogps {
    /// `[pairs]`, Σ log π(token) of the preferred completion, in nats.
    pub chosen: Tensor<1>,
    /// `[pairs]`, the same of the other completion.
    pub rejected: Tensor<1>,
    lengths: Option<(Tensor<1>, Tensor<1>)>,
}

impl PairLogps {
    /// `chosen`, `rejected`: `[pairs]`.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when the two differ in length.
    pub fn new(chosen: Tensor<1>, rejected: Tensor<1>) -> Result<Self, Error> {
        same_length("chosen and rejected log-probs", &chosen, &rejected)?;
        Ok(Self { chosen, rejected, lengths: None })
    }

    /// Adds the completion lengths in tokens, `[pairs]` each; length-averaged losses read them.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when a length tensor does not match the log-probs.
    pub fn with_lengths(mut self, chosen: Tensor<1>, rejected: Tensor<1>) -> Result<Self, Error> {
        same_length("chosen log-probs and lengths", &self.chosen, &chosen)?;
        same_length("rejected log-probs and lengths", &self.rejected, &rejected)?;
        self.lengths = Some((chosen, rejected));
        Ok(self)
    }

    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.chosen.dims()[0]
    }

    /// `[pairs]`, log π(chosen) − log π(rejected).
    pub fn margin(&self) -> Tensor<1> {
        self.chosen.clone() - self.rejected.clone()
    }

    /// Log-probs per token. Lengths below one count as one, so that an empty completion gives 0, not NaN.
    pub(crate) fn averaged(&self, lengths: &Self, loss: &'static str) -> Result<Self, Error> {
        let (chosen, rejected) = lengths.lengths.clone().ok_or(Error::LengthsMissing { loss })?;
        Self::new(self.chosen.clone() / chosen.clamp_min(1.0), self.rejected.clone() / rejected.clamp_min(1.0))
    }
}

pub(crate) fn same_length(what: &'static str, left: &Tensor<1>, right: &Tensor<1>) -> Result<(), Error> {
    let (left, right) = (left.dims()[0], right.dims()[0]);
    if left == right { Ok(()) } else { Err(Error::LengthMismatch { what, left, right }) }
}

/// `[pairs]`, ρ = (log π(w) − log π(l)) − (log ref(w) − log ref(l)): the log-ratio margin that every
/// pairwise direct-alignment loss is a function of.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub(crate) fn log_ratio_margin(policy: &PairLogps, reference: &PairLogps) -> Result<Tensor<1>, Error> {
    same_length("policy and reference log-probs", &policy.chosen, &reference.chosen)?;
    Ok(policy.margin() - reference.margin())
}
