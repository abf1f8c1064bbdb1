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

    /// `[pairs]` each: the completions' lengths in tokens, where they were given.
    pub fn lengths(&self) -> Option<(&Tensor<1>, &Tensor<1>)> {
        self.lengths.as_ref().map(|(chosen, rejected)| (chosen, rejected))
    }

    /// `[pairs]`, log π(chosen) − log π(rejected).
    pub fn margin(&self) -> Tensor<1> {
        self.chosen.clone() - self.rejected.clone()
    }

    /// log π − log π_ref of both completions; lengths are the policy's.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
    pub fn log_ratios(&self, reference: &Self) -> Result<Self, Error> {
        same_length("policy and reference log-probs", &self.chosen, &reference.chosen)?;
        Ok(Self {
            chosen: self.chosen.clone() - reference.chosen.clone(),
            rejected: self.rejected.clone() - reference.rejected.clone(),
            lengths: self.lengths.clone(),
        })
    }

    /// Both sides per token of `self`'s own lengths. Lengths below one count as one, so that an empty
    /// completion gives 0, not NaN.
    pub(crate) fn averaged(&self, loss: &'static str) -> Result<Self, Error> {
        let (chosen, rejected) = self.lengths().ok_or(Error::LengthsMissing { loss })?;
        let per_token = |sums: &Tensor<1>, lengths: &Tensor<1>| sums.clone() / lengths.clone().clamp_min(1.0);
        Self::new(per_token(&self.chosen, chosen), per_token(&self.rejected, rejected))
    }

    /// Both sides changed by `f`; the lengths stay.
    pub(crate) fn map(self, f: impl Fn(Tensor<1>) -> Tensor<1>) -> Self {
        Self { chosen: f(self.chosen), rejected: f(self.rejected), lengths: self.lengths }
    }

    /// As [`PairLogps::map`] for an `f` of several operations on each element, in one pass over both sides.
    pub(crate) fn map_together(self, f: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Self {
        let pairs = self.pairs();
        let both = f(Tensor::cat(vec![self.chosen, self.rejected], 0));
        let (chosen, rejected) = (both.clone().narrow(0, 0, pairs), both.narrow(0, pairs, pairs));
        Self { chosen, rejected, lengths: self.lengths }
    }
}

pub(crate) fn same_length(what: &'static str, left: &Tensor<1>, right: &Tensor<1>) -> Result<(), Error> {
    let (left, right) = (left.dims()[0], right.dims()[0]);
    if left == right { Ok(()) } else { Err(Error::LengthMismatch { what, left, right }) }
}

/// `[pairs]`, ρ = (log π(w) − log ref(w)) − (log π(l) − log ref(l)): the log-ratio margin that most pairwise
/// direct-alignment losses are a function of. The two log-ratios are subtracted, not the two margins: policy
/// and reference are near each other, so little is lost to rounding even where the sums are thousands of nats.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn log_ratio_margin(policy: &PairLogps, reference: &PairLogps) -> Result<Tensor<1>, Error> {
    Ok(policy.log_ratios(reference)?.margin())
}
