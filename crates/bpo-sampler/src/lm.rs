use burn::tensor::Tensor;

/// A causal language model as the sampler needs it: read prompts once, then one token per row and step.
///
/// Rows of a cache are independent; implementations must give a row the same logits (up to rounding)
/// whatever the other rows are.
pub trait CausalLm {
    /// Keys and values (or any other state) of the rows being sampled.
    type Cache;

    /// Number of token ids the model can emit.
    fn vocab_size(&self) -> usize;

    /// Longest prompt plus completion, in tokens.
    fn context(&self) -> usize;

    /// Reads `prompts` (none empty) and leaves room for `new_tokens` more per row.
    /// Returns one cache row per prompt and the logits after each prompt, `[prompts, vocab]`.
    fn prefill(&self, prompts: &[&[u32]], new_tokens: usize) -> (Self::Cache, Tensor<2>);

    /// Appends one token to every row; returns the logits after it, `[rows, vocab]`.
    fn step(&self, cache: &mut Self::Cache, tokens: &[u32]) -> Tensor<2>;

    /// Makes the cache consist of its rows `rows`, in that order; a row may repeat (several samples of
    /// one prompt) or be left out (finished).
    fn select(&self, cache: &mut Self::Cache, rows: &[usize]);
}
