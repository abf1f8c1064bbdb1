use std::{fmt, str::FromStr};

use burn::tensor::{
    Tensor,
    activation::{relu, sigmoid},
};

use crate::{Error, PairLogps, log_ratio_margin, stable::softplus};

/// A function f of generalised preference optimisation; all but [`Savage`](Self::Savage) are convex.
///
/// Its tail sets the regularisation towards the reference, f″(0)/f′(0) its strength near it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GpoFunction {
    /// `log(1 + e⁻ˣ)`: DPO.
    Logistic,
    /// `max(0, 1 − x)`: SLiC.
    Hinge,
    /// `(x − 1)²`: IPO with twice its β, up to a factor.
    Squared,
    /// `e⁻ˣ`.
    Exponential,
    /// `max(0, 1 − x)²`.
    TruncatedQuadratic,
    /// `1/(1 + eˣ)²`: not convex; a badly wrong pair gets no gradient.
    Savage,
}

impl GpoFunction {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Logistic, Self::Hinge, Self::Squared, Self::Exponential, Self::TruncatedQuadratic, Self::Savage];

    /// f of each element, `[pairs]`.
    pub fn of(self, x: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Logistic => softplus(x.neg()),
            Self::Hinge => relu(x.neg() + 1.0),
            Self::Squared => (x - 1.0).square(),
            Self::Exponential => x.neg().exp(),
            Self::TruncatedQuadratic => relu(x.neg() + 1.0).square(),
            Self::Savage => sigmoid(x.neg()).square(),
        }
    }
}

impl fmt::Display for GpoFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Logistic => "logistic",
            Self::Hinge => "hinge",
            Self::Squared => "squared",
            Self::Exponential => "exponential",
            Self::TruncatedQuadratic => "truncated_quadratic",
            Self::Savage => "savage",
        })
    }
}

impl FromStr for GpoFunction {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|f| f.to_string() == name);
        found.ok_or_else(|| format!("unknown GPO function \"{name}\""))
    }
}

/// Generalised preference optimisation: `f(βρ)`, unreduced, `[pairs]`. For another convex f call it with a closure of
/// your own: `gpo(&policy, &reference, beta, |x| …)`.
///
/// Tang et al. 2024, arXiv:2402.05749, eq. 5.
///
/// # Errors
/// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
pub fn gpo(
    policy: &PairLogps,
    reference: &PairLogps,
    beta: f64,
    f: impl FnOnce(Tensor<1>) -> Tensor<1>,
) -> Result<Tensor<1>, Error> {
    Ok(f(log_ratio_margin(policy, reference)? * beta))
}
