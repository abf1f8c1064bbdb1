/// Why a loss or a log-prob could not be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two tensors of one pair batch have different lengths.
    #[error("{what}: {left} values on one side, {right} on the other")]
    LengthMismatch {
        /// Which two tensors.
        what: &'static str,
        /// Length of the first.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// A hyper-parameter lies outside its domain.
    #[error("{name} = {value}: {requirement}")]
    BadHyperparameter {
        /// The recipe key.
        name: &'static str,
        /// What it was.
        value: f64,
        /// What it must be.
        requirement: &'static str,
    },
    /// A length-averaged loss was called without completion lengths.
    #[error("{loss} averages over tokens and needs the completion lengths: use PairLogps::with_lengths")]
    LengthsMissing {
        /// The loss.
        loss: &'static str,
    },
    /// The loss has no form for another f-divergence than the reverse KL.
    #[error(
        "f_divergence_type: loss_type \"{loss}\" has no f-divergence form; sigmoid, sigmoid_norm, hinge, ipo, \
         exo_pair, robust, discopop and sft have"
    )]
    NoDivergence {
        /// The loss.
        loss: String,
    },
    /// A loss that couples the pairs of a batch needs more of them.
    #[error("{loss} is not defined on {pairs} pairs: it needs at least {needed}")]
    BatchTooSmall {
        /// The loss.
        loss: String,
        /// Pairs given.
        pairs: usize,
        /// Pairs needed.
        needed: usize,
    },
    /// The text behind `expr:` is not a loss expression.
    #[error("loss_type, {error}\n  {}", shown.replace('\n', "\n  "))]
    LossExpression {
        /// What is wrong with it.
        error: crate::ExpressionError,
        /// Its line with a caret under the column.
        shown: String,
    },
    /// No loss has this name.
    #[error("unknown loss_type \"{name}\"; known: {known}, or \"expr: …\"")]
    UnknownLoss {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// A text is not a loss expression.
    #[error(transparent)]
    Expression(#[from] crate::ExpressionError),
    /// The device did not give its values back.
    #[error("the margins could not be read back for sorting: {0}")]
    Unreadable(String),
    /// A target token is not a row of the head.
    #[error("target token {token} at position {position} is outside the vocabulary of {vocab}")]
    TokenOutOfVocabulary {
        /// The token id.
        token: u32,
        /// Its index among the targets.
        position: usize,
        /// Rows of the head.
        vocab: usize,
    },
    /// Hidden states and head disagree.
    #[error("hidden states are {hidden} wide, the head is {head}")]
    WidthMismatch {
        /// Width of the hidden states.
        hidden: usize,
        /// Width of the head.
        head: usize,
    },
}

impl Error {
    pub(crate) fn unless_pairs(loss: &str, pairs: usize, needed: usize) -> Result<(), Self> {
        if pairs < needed { Err(Self::BatchTooSmall { loss: loss.into(), pairs, needed }) } else { Ok(()) }
    }
}
