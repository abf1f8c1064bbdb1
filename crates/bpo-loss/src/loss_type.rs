use std::{fmt, str::FromStr};

use crate::{Error, Expression, ExpressionError, Form, GpoFunction};

/// Which direct-alignment loss; the names are TRL's `loss_type` where TRL has the loss.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum LossType {
    /// DPO ([`dpo`](crate::dpo)).
    #[default]
    Sigmoid,
    /// SLiC ([`slic_hinge`](crate::slic_hinge)).
    Hinge,
    /// IPO ([`ipo`](crate::ipo()), [`ipo_averaged`](crate::ipo_averaged)).
    Ipo,
    /// DPO per token ([`dpo_averaged`](crate::dpo_averaged)).
    SigmoidNorm,
    /// [`exo_pair`](crate::exo_pair).
    ExoPair,
    /// [`nca_pair`](crate::nca_pair).
    NcaPair,
    /// [`robust_dpo`](crate::robust_dpo).
    Robust,
    /// [`bco_pair`](crate::bco_pair).
    BcoPair,
    /// [`sppo_hard`](crate::sppo_hard).
    SppoHard,
    /// [`aot`](crate::aot()).
    Aot,
    /// [`aot_unpaired`](crate::aot_unpaired).
    AotUnpaired,
    /// [`apo_zero`](crate::apo_zero).
    ApoZero,
    /// [`apo_down`](crate::apo_down).
    ApoDown,
    /// [`kto_pair`](crate::kto_pair).
    KtoPair,
    /// [`chosen_nll`](crate::chosen_nll).
    Sft,
    /// [`discopop`](crate::discopop()).
    Discopop,
    /// [`lrml`](crate::lrml).
    Lrml(Form),
    /// [`aql`](crate::aql).
    Aql(Form),
    /// [`aqfl`](crate::aqfl).
    Aqfl(Form),
    /// [`padll`](crate::padll).
    Padll,
    /// [`dbaql`](crate::dbaql).
    Dbaql(Form),
    /// [`cell`](crate::cell).
    Cell,
    /// [`pfl`](crate::pfl).
    Pfl(Form),
    /// [`gpo`](crate::gpo()).
    Gpo(GpoFunction),
    /// A loss in the words of [`Expression`], written `expr: …`.
    Expr(Expression),
}

/// What an expression is written behind.
const EXPRESSION: &str = "expr:";

impl LossType {
    /// Every loss this build knows by name, in the order the help shows them.
    pub const ALL: [Self; 34] = [
        Self::Sigmoid,
        Self::Hinge,
        Self::Ipo,
        Self::SigmoidNorm,
        Self::ExoPair,
        Self::NcaPair,
        Self::Robust,
        Self::BcoPair,
        Self::SppoHard,
        Self::Aot,
        Self::AotUnpaired,
        Self::ApoZero,
        Self::ApoDown,
        Self::KtoPair,
        Self::Sft,
        Self::Discopop,
        Self::Lrml(Form::Current),
        Self::Lrml(Form::Old),
        Self::Aql(Form::Current),
        Self::Aql(Form::Old),
        Self::Aqfl(Form::Current),
        Self::Aqfl(Form::Old),
        Self::Padll,
        Self::Dbaql(Form::Current),
        Self::Dbaql(Form::Old),
        Self::Cell,
        Self::Pfl(Form::Current),
        Self::Pfl(Form::Old),
        Self::Gpo(GpoFunction::Logistic),
        Self::Gpo(GpoFunction::Hinge),
        Self::Gpo(GpoFunction::Squared),
        Self::Gpo(GpoFunction::Exponential),
        Self::Gpo(GpoFunction::TruncatedQuadratic),
        Self::Gpo(GpoFunction::Savage),
    ];

    /// Whether a pair's loss depends on the other pairs of the batch. Such a loss means something else on every
    /// batch size: compute it over all pairs of a step at once, not over micro-batches.
    pub fn is_batch_coupled(&self) -> bool {
        use LossType::{Aot, AotUnpaired, Aqfl, Aql, Dbaql, KtoPair, Sft};
        match self {
            Self::Expr(expression) => expression.batch_coupled(),
            known => matches!(known, Aot | AotUnpaired | KtoPair | Sft | Aql(_) | Aqfl(_) | Dbaql(_)),
        }
    }

    /// Fewest pairs the loss is defined on.
    pub fn min_pairs(&self) -> usize {
        match self {
            Self::Expr(expression) => expression.min_pairs(),
            Self::Aqfl(_) | Self::Dbaql(_) => 2,
            _ => 1,
        }
    }

    /// Whether the loss has a form for other f-divergences: those that TRL gives one.
    pub fn has_divergences(&self) -> bool {
        use LossType::{Discopop, ExoPair, Hinge, Ipo, Robust, Sft, Sigmoid, SigmoidNorm};
        matches!(self, Sigmoid | SigmoidNorm | Hinge | Ipo | ExoPair | Robust | Discopop | Sft)
    }

    /// Whether the loss reads `label_smoothing`.
    pub fn reads_label_smoothing(&self) -> bool {
        matches!(self, Self::Sigmoid | Self::ExoPair | Self::Robust | Self::Aot | Self::AotUnpaired)
    }
}

impl fmt::Display for LossType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, form) = match self {
            Self::Sigmoid => ("sigmoid", None),
            Self::Hinge => ("hinge", None),
            Self::Ipo => ("ipo", None),
            Self::SigmoidNorm => ("sigmoid_norm", None),
            Self::ExoPair => ("exo_pair", None),
            Self::NcaPair => ("nca_pair", None),
            Self::Robust => ("robust", None),
            Self::BcoPair => ("bco_pair", None),
            Self::SppoHard => ("sppo_hard", None),
            Self::Aot => ("aot", None),
            Self::AotUnpaired => ("aot_unpaired", None),
            Self::ApoZero => ("apo_zero", None),
            Self::ApoDown => ("apo_down", None),
            Self::KtoPair => ("kto_pair", None),
            Self::Sft => ("sft", None),
            Self::Discopop => ("discopop", None),
            Self::Padll => ("padll", None),
            Self::Cell => ("cell", None),
            Self::Lrml(form) => ("lrml", Some(form)),
            Self::Aql(form) => ("aql", Some(form)),
            Self::Aqfl(form) => ("aqfl", Some(form)),
            Self::Dbaql(form) => ("dbaql", Some(form)),
            Self::Pfl(form) => ("pfl", Some(form)),
            Self::Gpo(function) => return write!(f, "gpo_{function}"),
            Self::Expr(expression) => return write!(f, "{EXPRESSION} {expression}"),
        };
        f.write_str(name)?;
        if form == Some(&Form::Old) { f.write_str("_old") } else { Ok(()) }
    }
}

impl FromStr for LossType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        if let Some(text) = name.strip_prefix(EXPRESSION) {
            let text = text.trim();
            let told = |error: ExpressionError| Error::LossExpression { shown: error.pointing(text), error };
            return text.parse().map(Self::Expr).map_err(told);
        }
        let found = Self::ALL.into_iter().find(|loss| loss.to_string() == name);
        found.ok_or_else(|| Error::UnknownLoss {
            name: name.into(),
            known: Self::ALL.map(|loss| loss.to_string()).join(", "),
        })
    }
}
