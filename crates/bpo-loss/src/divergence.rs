use burn::tensor::{DType, Tensor};

use crate::{
    Error, PairLogps,
    stable::{expm1, logistic, with_slope},
};

/// Largest exponent of the α-divergence; beyond it the score is constant, as in TRL.
const LARGEST_EXPONENT: f64 = 80.0;

/// The same of the forward KL. In f32 an infinite score would make a NaN of the margin or of its gradient.
fn largest_exponent(dtype: DType) -> f64 {
    if dtype == DType::F64 { 700.0 } else { LARGEST_EXPONENT }
}

/// The divergence that holds the policy near its reference. A loss of log-ratios becomes its f-divergence form by
/// reading the scores `f′(π/π_ref)` instead. Wang et al. 2023, arXiv:2309.16240, table 1 (constants dropped: they
/// cancel in a pair).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum FDivergence {
    /// `lr`: DPO's own.
    #[default]
    ReverseKl,
    /// `1 − e^{−lr}`; the exponent at most 80, in f64 700: beyond it the score is constant.
    ForwardKl,
    /// `log 2 + log σ(lr)`.
    JsDivergence,
    /// `(e^{(α−1)·lr} − 1)/(α − 1)`, the exponent at most 80; its limit `lr` at α = 1. TRL up to 0.24 counts
    /// another way: their α is 1 − this one.
    AlphaDivergence {
        /// α.
        coefficient: f64,
    },
}

impl FDivergence {
    /// Scores of log-ratios, element by element.
    pub fn scores(self, log_ratios: Tensor<1>) -> Tensor<1> {
        match self {
            Self::ReverseKl => log_ratios,
            Self::ForwardKl => {
                let largest = largest_exponent(log_ratios.dtype());
                log_ratios.neg().clamp_max(largest).exp().neg() + 1.0
            }
            Self::JsDivergence => {
                let (softplus, slope) = logistic(log_ratios.clone().inner());
                with_slope(log_ratios, softplus.neg() + std::f64::consts::LN_2, slope)
            }
            Self::AlphaDivergence { coefficient: 1.0 } => log_ratios,
            Self::AlphaDivergence { coefficient } => {
                let exponent = (log_ratios * (coefficient - 1.0)).clamp_max(LARGEST_EXPONENT);
                // Near α = 1 what cancels in eˣ − 1 is divided by little.
                let exact = (coefficient - 1.0).abs() < 0.1;
                let difference = if exact { expm1(exponent) } else { exponent.exp() - 1.0 };
                difference * (coefficient - 1.0).recip()
            }
        }
    }

    /// Policy and reference whose log-ratios are the scores of these: what a loss of log-ratios reads.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs.
    pub fn apply(self, policy: &PairLogps, reference: &PairLogps) -> Result<[PairLogps; 2], Error> {
        if self == Self::ReverseKl {
            return Ok([policy.clone(), reference.clone()]);
        }
        let scores = policy.log_ratios(reference)?.map_together(|ratios| self.scores(ratios));
        let nothing = reference.clone().map(|logps| logps.zeros_like());
        Ok([scores, nothing])
    }
}
