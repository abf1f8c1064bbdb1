/// Why nothing could be sampled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A prompt holds no token: there is nothing to continue.
    #[error("prompt {prompt} has no tokens")]
    EmptyPrompt {
        /// Index of the request.
        prompt: usize,
    },
    /// The prompt leaves no room for a single new token.
    #[error("prompt {prompt} has {length} tokens; the model's context is {context}")]
    PromptTooLong {
        /// Index of the request.
        prompt: usize,
        /// Its tokens.
        length: usize,
        /// Positions of the model.
        context: usize,
    },
    /// A prompt token is not in the model's vocabulary.
    #[error("prompt {prompt} holds token {token}; the model's vocabulary ends at {vocab}")]
    TokenOutOfVocabulary {
        /// Index of the request.
        prompt: usize,
        /// The token id.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A sampling parameter lies outside its domain.
    #[error("{name} = {value}: {requirement}")]
    BadParameter {
        /// The recipe key.
        name: &'static str,
        /// What it was.
        value: f64,
        /// What it must be.
        requirement: &'static str,
    },
    /// The model returned NaN or infinity, or no admissible token at all.
    #[error("the logits after token {position} of prompt {prompt} are not finite")]
    NonFiniteLogits {
        /// Index of the request.
        prompt: usize,
        /// Tokens sampled so far.
        position: usize,
    },
    /// A member of the ensemble scored more or fewer candidates than the first.
    #[error("member {member} has {rewards} rewards for {candidates} candidates")]
    RaggedRewards {
        /// Index of the member.
        member: usize,
        /// Its rewards.
        rewards: usize,
        /// Those of the first member.
        candidates: usize,
    },
    /// No rule for pairs has that name; the text lists those there are.
    #[error("pair_selection: {0}")]
    UnknownPairSelection(String),
    /// The logits could not be read back from the device.
    #[error("cannot read the logits back: {0}")]
    Unreadable(String),
}
