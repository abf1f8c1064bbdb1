use std::{fmt, str::FromStr};

use burn::tensor::Tensor;

use crate::{Error, PairLogps, dpo, ipo, ipo_averaged, slic_hinge};

/// Which direct-alignment loss; the names are TRL's `loss_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LossType {
    /// DPO ([`dpo`]).
    #[default]
    Sigmoid,
    /// SLiC ([`slic_hinge`]).
    Hinge,
    /// IPO ([`ipo`], [`ipo_averaged`]).
    Ipo,
}

impl LossType {
    /// Every loss this build knows, in the order the help shows them.
    pub const ALL: [Self; 3] = [Self::Sigmoid, Self::Hinge, Self::Ipo];
}

impl fmt::Display for LossType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sigmoid => "sigmoid",
            Self::Hinge => "hinge",
            Self::Ipo => "ipo",
        })
    }
}

impl FromStr for LossType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|loss| loss.to_string() == name).ok_or_else(|| {
            let known = Self::ALL.map(|loss| loss.to_string()).join(", ");
            format!("unknown loss_type \"{name}\"; known: {known}")
        })
    }
}

/// A loss with its hyper-parameters: what a recipe's `loss_type`, `beta`, `label_smoothing` and
/// `ipo_length_norm` mean together.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// The loss.
    pub loss_type: LossType,
    /// Strength β of the pull towards the reference, > 0.
    pub beta: f64,
    /// Assumed share of flipped labels in [0, 0.5); `sigmoid` only.
    pub label_smoothing: f64,
    /// IPO on length-averaged (true) or summed log-probs.
    pub ipo_length_norm: bool,
}

impl Default for Objective {
    fn default() -> Self {
        Self { loss_type: LossType::Sigmoid, beta: 0.1, label_smoothing: 0.0, ipo_length_norm: true }
    }
}

impl Objective {
    /// Checks the hyper-parameters' domains.
    ///
    /// # Errors
    /// [`Error::BadHyperparameter`] naming the key.
    pub fn validate(&self) -> Result<(), Error> {
        let bad = |name, value, requirement| Err(Error::BadHyperparameter { name, value, requirement });
        if !(self.beta.is_finite() && self.beta > 0.0) {
            return bad("beta", self.beta, "must be a finite number above 0");
        }
        if !(0.0..0.5).contains(&self.label_smoothing) {
            return bad("label_smoothing", self.label_smoothing, "must lie in [0, 0.5)");
        }
        if self.label_smoothing > 0.0 && self.loss_type != LossType::Sigmoid {
            return bad("label_smoothing", self.label_smoothing, "only loss_type \"sigmoid\" reads it");
        }
        Ok(())
    }

    /// Unreduced losses, `[pairs]`; differentiable in `policy`.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] or [`Error::LengthsMissing`], see the loss.
    pub fn losses(&self, policy: &PairLogps, reference: &PairLogps) -> Result<Tensor<1>, Error> {
        match self.loss_type {
            LossType::Sigmoid => dpo(policy, reference, self.beta, self.label_smoothing),
            LossType::Hinge => slic_hinge(policy, reference, self.beta),
            LossType::Ipo if self.ipo_length_norm => ipo_averaged(policy, reference, self.beta),
            LossType::Ipo => ipo(policy, reference, self.beta),
        }
    }
}
