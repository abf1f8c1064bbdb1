use burn::tensor::Tensor;

/// A causal language model as the sampler needs it: read prompts once, then one token per row and step.
///
/// Rows of a cache are independent; implementations must give a row the same logits (up to rounding)
/// whatever the other rows are.
pub trait CausalLm {
    /// Keys and values (or any other state) of the rows being sampled; the default has no rows.
    type Cache: Default;

    /// Number of token ids the model can emit.
    fn vocab_size(&self) -> usize;

    /// Longest prompt plus completion, in tokens.
    fn context(&self) -> usize;

    /// Reads `prompts` (none empty). Returns one cache row per prompt and the logits after each, `[prompts, vocab]`.
    fn prefill(&self, prompts: &[&[u32]]) -> (Self::Cache, Tensor<2>);

    /// Appends one token to every row; returns the logits after it, `[rows, vocab]`.
    fn step(&self, cache: &mut Self::Cache, tokens: &[u32]) -> Tensor<2>;

    /// Puts copies of the rows `rows` of `from` behind those of `cache`, with room for `room` more tokens each; a row
    /// may repeat (several samples of one prompt).
    fn append(&self, cache: &mut Self::Cache, from: &Self::Cache, rows: &[usize], room: usize);

    /// Drops a row; the last one takes its place.
    fn swap_remove(&self, cache: &mut Self::Cache, row: usize);
}
