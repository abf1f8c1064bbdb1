use burn::tensor::{Int, Tensor};

/// Label that excludes a position, as in transformers.
pub const IGNORE_INDEX: i64 = -100;

/// Summed log-probs of the labels under `logits`, the textbook way; `[batch]`.
///
/// [`token_logps`] summed over time: a row of nothing but [`IGNORE_INDEX`] gives 0. Use it when the logits are at hand
/// (another framework's, a test's); a model of ours goes through [`Head`](crate::Head), which never builds this tensor.
pub fn sequence_logps(logits: Tensor<3>, labels: Tensor<2, Int>) -> Tensor<1> {
    token_logps(logits, labels).0.sum_dim(1).squeeze_dim(1)
}

/// The log-prob of every label, `[batch, time − 1]`, 0 where it does not count, and how many of each row count,
/// `[batch]`.
///
/// `logits` `[batch, time, vocab]` at position `t` predict `labels` `[batch, time]` at `t + 1`; positions labelled
/// [`IGNORE_INDEX`] do not count. Differentiable.
pub fn token_logps(logits: Tensor<3>, labels: Tensor<2, Int>) -> (Tensor<2>, Tensor<1, Int>) {
    let [batch, time, vocab] = logits.dims();
    if time < 2 {
        let device = logits.device();
        return (Tensor::zeros([batch, 0], (&device, logits.dtype())), Tensor::zeros([batch], &device));
    }
    let logits = logits.slice([0..batch, 0..time - 1, 0..vocab]);
    let labels = labels.slice([0..batch, 1..time]);
    let ignored = labels.clone().equal_elem(IGNORE_INDEX);
    let targets: Tensor<3, Int> = labels.mask_fill(ignored.clone(), 0).unsqueeze_dim(2);
    let max = logits.clone().detach().max_dim(2);
    let shifted = logits - max;
    let normaliser = shifted.clone().exp().sum_dim(2).log();
    let token_logps: Tensor<2> = (shifted.gather(2, targets) - normaliser).squeeze_dim(2);
    let counted = ignored.clone().bool_not().int().sum_dim(1).squeeze_dim(1);
    (token_logps.mask_fill(ignored, 0.0), counted)
}
