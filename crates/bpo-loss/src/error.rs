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
    /// A statistic of the batch needs more pairs than there are.
    #[error("{loss} needs {needed} pairs in a batch, found {pairs}")]
    BatchTooSmall {
        /// The loss.
        loss: String,
        /// Pairs of the batch.
        pairs: usize,
        /// Fewest pairs that will do.
        needed: usize,
    },
    /// A text is not a loss expression.
    #[error(transparent)]
    Expression(#[from] crate::ExpressionError),
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
