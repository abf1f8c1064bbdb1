mod check;
mod error;
mod evaluate;
mod kernels;
mod names;
mod print;
mod program;
mod rewrite;
mod syntax;

use std::str::FromStr;

use burn::tensor::Tensor;
pub use error::ExpressionError;

use self::{
    error::Fault,
    evaluate::{Inputs, evaluate},
    program::{Batch, Op, Program},
    syntax::{Binding, Node},
};
use crate::{Error, PairLogps};

#[doc = include_str!("language.md")]
#[derive(Debug, Clone)]
pub struct Expression {
    bindings: Vec<Binding>,
    result: Node,
    program: Program,
}

/// Equal when written alike, white space and needless parentheses aside; not whenever the values are.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.bindings == other.bindings && self.result == other.result
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        Self::parse(text)
    }
}

impl Expression {
    /// Longest text, and longest canonical text, in bytes.
    pub const MAX_BYTES: usize = 4096;
    /// Most numbers, names, calls and operators of a text; parentheses and bindings do not count.
    pub const MAX_NODES: usize = 256;
    /// Deepest nesting of parentheses, calls, prefix operators and powers.
    pub const MAX_DEPTH: usize = 64;
    /// Most bindings.
    pub const MAX_BINDINGS: usize = 32;

    /// Reads and type-checks a loss.
    ///
    /// # Errors
    /// The first thing that is wrong with the text, and its column.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        Self::compile(text).map_err(|fault| fault.within(text))
    }

    fn compile(text: &str) -> Result<Self, Fault> {
        let too_long = |what: &str, at: usize| Fault::new(at, format!("{what} longer than {} bytes", Self::MAX_BYTES));
        if text.len() > Self::MAX_BYTES {
            return Err(too_long("the text is", Self::MAX_BYTES));
        }
        let tree = syntax::parse(text)?;
        let program = check::check(&tree)?;
        let bindings = tree.bindings.into_iter().map(|(_, binding)| binding).collect();
        let expression = Self { bindings, result: tree.result, program };
        if expression.to_string().len() > Self::MAX_BYTES {
            return Err(too_long("with a space around every operator the text is", text.len()));
        }
        Ok(expression)
    }

    /// The losses are not a function of their own pair alone: `mean`, `std`, `var` or `sort` is used.
    pub fn batch_coupled(&self) -> bool {
        self.program.uses(|op| matches!(op, Op::Batch(..)))
    }

    /// Fewest pairs of a batch: 2 with `std` or `var`, otherwise 1.
    pub fn min_pairs(&self) -> usize {
        if self.program.uses(|op| matches!(op, Op::Batch(Batch::Std | Batch::Var, _))) { 2 } else { 1 }
    }

    /// `len_c` or `len_r` is used.
    pub fn uses_lengths(&self) -> bool {
        self.program.uses(|op| matches!(op, Op::Variable(variable) if variable.is_length()))
    }

    /// Unreduced losses, `[pairs]`, in the order of the pairs (after a `sort`, in that of the sort). The lengths
    /// are the policy's, or else the reference's.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when policy and reference hold different numbers of pairs,
    /// [`Error::BatchTooSmall`] below [`Expression::min_pairs`], and [`Error::LengthsMissing`] when
    /// [`Expression::uses_lengths`] and neither side has any.
    pub fn losses(&self, policy: &PairLogps, reference: &PairLogps, beta: f64) -> Result<Tensor<1>, Error> {
        let (pairs, needed) = (policy.pairs(), self.min_pairs());
        if pairs != reference.pairs() {
            let what = "policy and reference log-probs";
            return Err(Error::LengthMismatch { what, left: pairs, right: reference.pairs() });
        }
        if pairs < needed {
            return Err(Error::BatchTooSmall { loss: "expr".to_string(), pairs, needed });
        }
        let lengths = policy.lengths().or(reference.lengths());
        if self.uses_lengths() && lengths.is_none() {
            return Err(Error::LengthsMissing { loss: "expr" });
        }
        Ok(evaluate(&self.program, Inputs { policy, reference, beta, lengths }))
    }
}
