//! Functions that stay finite, with finite gradients, wherever the mathematics is.
//!
//! Nothing in this crate divides a differentiated tensor by a constant: burn 0.22 rounds the constant's reciprocal to
//! f32 on the way back, whatever the tensor's precision. A product with the reciprocal is exact, and faster.
use burn::tensor::{Tensor, activation::log_sigmoid};

/// log(1 + eˣ). burn's own `log_sigmoid`, because `max(x, 0) + log1p(e^−|x|)` has the autodiff gradient 1
/// instead of ½ at x = 0, which is where a refreshed policy stands.
pub(crate) fn softplus(x: Tensor<1>) -> Tensor<1> {
    log_sigmoid(x.neg()).neg()
}

/// eˣ − 1 without cancellation near 0, where it is tanh(x/2)·(eˣ + 1). Not so far left: there that product's gradient
/// cancels to −eˣ.
pub(crate) fn expm1(x: Tensor<1>) -> Tensor<1> {
    let near = x.clone().abs().lower_elem(0.5);
    let exp = x.clone().exp();
    let exact = (x * 0.5).tanh() * (exp.clone() + 1.0);
    (exp - 1.0).mask_where(near, exact)
}

/// Unbiased variance over the batch, `[1]`.
pub(crate) fn variance(x: &Tensor<1>) -> Tensor<1> {
    let centred = x.clone() - x.clone().mean();
    (centred.clone() * centred).sum() * (x.dims()[0] as f64 - 1.0).recip()
}

/// Unbiased standard deviation over the batch, `[1]`; its gradient is 0 where all values are equal, as torch's.
pub(crate) fn deviation(x: &Tensor<1>) -> Tensor<1> {
    let variance = variance(x);
    let flat = variance.clone().equal_elem(0.0);
    variance.mask_fill(flat.clone(), 1.0).sqrt().mask_fill(flat, 0.0)
}
