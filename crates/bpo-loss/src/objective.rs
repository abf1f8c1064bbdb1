use burn::tensor::{Device, Tensor};

use crate::{
    Error, FDivergence, LossType, PairLogps, aot, aot_unpaired, apo_down, apo_zero, aqfl, aql, bco_pair, cell,
    chosen_nll, dbaql, discopop, dpo, dpo_averaged, exo_pair, gpo, ipo, ipo_averaged, kto_pair, lrml, nca_pair, padll,
    pfl, robust_dpo, slic_hinge, sppo_hard,
};

/// One loss of a weighted sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// The loss.
    pub loss_type: LossType,
    /// Its factor.
    pub weight: f64,
}

/// A loss with its hyper-parameters: what a recipe's `loss_type`, `loss_weights`, `beta`, … mean together.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// The losses that are added up; at least one.
    pub terms: Vec<Term>,
    /// Strength β of the pull towards the reference, > 0.
    pub beta: f64,
    /// Assumed share of flipped labels in [0, 0.5). `exo_pair` takes 1e-3 for 0, as TRL.
    pub label_smoothing: f64,
    /// IPO on length-averaged (true) or summed log-probs.
    pub ipo_length_norm: bool,
    /// Temperature τ of `discopop`, > 0.
    pub discopop_tau: f64,
    /// Constant shift δ of the rewards in `bco_pair`.
    pub bco_delta: f64,
    /// The divergence that holds the policy near its reference.
    pub divergence: FDivergence,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            terms: vec![Term { loss_type: LossType::Sigmoid, weight: 1.0 }],
            beta: 0.1,
            label_smoothing: 0.0,
            ipo_length_norm: true,
            discopop_tau: 0.05,
            bco_delta: 0.0,
            divergence: FDivergence::ReverseKl,
        }
    }
}

impl From<LossType> for Objective {
    fn from(loss_type: LossType) -> Self {
        Self { terms: vec![Term { loss_type, weight: 1.0 }], ..Self::default() }
    }
}

/// TRL's ε for `exo_pair` where none is given.
const EXO_SMOOTHING: f64 = 1e-3;

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
        if self.label_smoothing > 0.0 && !self.any(LossType::reads_label_smoothing) {
            let requirement = "only sigmoid, robust, exo_pair, aot and aot_unpaired read it";
            return bad("label_smoothing", self.label_smoothing, requirement);
        }
        if !(self.discopop_tau.is_finite() && self.discopop_tau > 0.0) {
            return bad("discopop_tau", self.discopop_tau, "must be a finite number above 0");
        }
        if let Some(term) = self.terms.iter().find(|term| !term.weight.is_finite()) {
            return bad("loss_weights", term.weight, "must be finite numbers");
        }
        if let FDivergence::AlphaDivergence { coefficient } = self.divergence
            && !coefficient.is_finite()
        {
            return bad("f_alpha_divergence_coef", coefficient, "must be a finite number");
        }
        match self.terms.iter().find(|term| !term.loss_type.has_divergences()) {
            Some(term) if self.divergence != FDivergence::ReverseKl => {
                Err(Error::NoDivergence { loss: term.loss_type.to_string() })
            }
            _ if self.terms.is_empty() => bad("loss_type", 0.0, "names no loss"),
            _ => Ok(()),
        }
    }

    /// Whether a pair's loss depends on the other pairs of the batch ([`LossType::is_batch_coupled`]).
    pub fn is_batch_coupled(&self) -> bool {
        self.any(LossType::is_batch_coupled)
    }

    /// Fewest pairs the objective is defined on.
    pub fn min_pairs(&self) -> usize {
        self.terms.iter().map(|term| term.loss_type.min_pairs()).max().unwrap_or(1)
    }

    fn any(&self, holds: impl Fn(&LossType) -> bool) -> bool {
        self.terms.iter().any(|term| holds(&term.loss_type))
    }

    /// Unreduced losses, `[pairs]`; differentiable in `policy`. Their mean is the loss of the batch; a single value is
    /// a pair's own only where the objective is not batch-coupled (`aot` gives sorted order, `kto_pair`'s two halves
    /// are averaged).
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::LengthsMissing`], [`Error::BatchTooSmall`]; see the losses.
    pub fn losses(&self, policy: &PairLogps, reference: &PairLogps) -> Result<Tensor<1>, Error> {
        let [scores, anchor] = self.divergence.apply(policy, reference)?;
        let mut sum: Option<Tensor<1>> = None;
        for Term { loss_type, weight } in &self.terms {
            let loss = match loss_type {
                LossType::Sft => chosen_nll(policy)?,
                other => self.term(other, &scores, &anchor)?,
            };
            let loss = if *weight == 1.0 { loss } else { loss * *weight };
            sum = Some(match sum {
                Some(sum) => sum + loss,
                None => loss,
            });
        }
        Ok(sum.unwrap_or_else(|| policy.chosen.zeros_like()))
    }

    /// dL/dρ where the policy equals its reference, as it does at every refresh of BPO: the push on the margin of two
    /// completions of 32 tokens at β. Positive means that the loss lowers it there, against the verdicts.
    ///
    /// # Errors
    /// As [`Objective::losses`].
    pub fn slope_at_the_reference(&self, device: &Device) -> Result<f64, Error> {
        let device = device.clone().autodiff();
        // Two pairs, the fewest that every loss is defined on.
        let row = |value: f32| Tensor::<1>::from_floats([value, value], &device);
        let leaves = [row(-40.0).require_grad(), row(-50.0).require_grad()];
        let [chosen, rejected] = leaves.clone();
        let policy = PairLogps::new(chosen, rejected)?.with_lengths(row(32.0), row(32.0))?;
        let gradients = self.losses(&policy, &PairLogps::new(row(-40.0), row(-50.0))?)?.sum().backward();
        let [up, down] = leaves.map(|leaf| leaf.grad(&gradients).map_or(0.0, |g| g.sum().into_scalar::<f32>()));
        Ok(f64::from(up - down) / 4.0)
    }

    fn term(&self, loss: &LossType, policy: &PairLogps, reference: &PairLogps) -> Result<Tensor<1>, Error> {
        let (beta, smoothing) = (self.beta, self.label_smoothing);
        match loss {
            LossType::Sigmoid => dpo(policy, reference, beta, smoothing),
            LossType::Hinge => slic_hinge(policy, reference, beta),
            LossType::Ipo if self.ipo_length_norm => ipo_averaged(policy, reference, beta),
            LossType::Ipo => ipo(policy, reference, beta),
            LossType::SigmoidNorm => dpo_averaged(policy, reference, beta),
            LossType::ExoPair if smoothing == 0.0 => exo_pair(policy, reference, beta, EXO_SMOOTHING),
            LossType::ExoPair => exo_pair(policy, reference, beta, smoothing),
            LossType::NcaPair => nca_pair(policy, reference, beta),
            LossType::Robust => robust_dpo(policy, reference, beta, smoothing),
            LossType::BcoPair => bco_pair(policy, reference, beta, self.bco_delta),
            LossType::SppoHard => sppo_hard(policy, reference, beta),
            LossType::Aot => aot(policy, reference, beta, smoothing),
            LossType::AotUnpaired => aot_unpaired(policy, reference, beta, smoothing),
            LossType::ApoZero => apo_zero(policy, reference, beta),
            LossType::ApoDown => apo_down(policy, reference, beta),
            LossType::KtoPair => Ok(halves_averaged(kto_pair(policy, reference, beta)?)),
            LossType::Sft => chosen_nll(policy),
            LossType::Discopop => discopop(policy, reference, beta, self.discopop_tau),
            LossType::Lrml(form) => lrml(policy, reference, beta, *form),
            LossType::Aql(form) => aql(policy, reference, beta, *form),
            LossType::Aqfl(form) => aqfl(policy, reference, beta, *form),
            LossType::Padll => padll(policy, reference, beta),
            LossType::Dbaql(form) => dbaql(policy, reference, beta, *form),
            LossType::Cell => cell(policy, reference, beta),
            LossType::Pfl(form) => pfl(policy, reference, beta, *form),
            LossType::Gpo(function) => gpo(policy, reference, beta, |x| function.of(x)),
            LossType::Expr(expression) => expression.losses(policy, reference, beta),
        }
    }
}

/// `[2·pairs]` to `[pairs]`, with the same mean.
fn halves_averaged(losses: Tensor<1>) -> Tensor<1> {
    let pairs = losses.dims()[0] / 2;
    (losses.clone().narrow(0, 0, pairs) + losses.narrow(0, pairs, pairs)) * 0.5
}
