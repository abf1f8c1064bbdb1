//! Functions that stay finite, with finite gradients, wherever the mathematics is.
//!
//! Nothing in this crate divides a differentiated tensor by a constant: burn 0.22 rounds the constant's reciprocal to
//! f32 on the way back, whatever the tensor's precision. A product with the reciprocal is exact, and faster.
use burn::tensor::Tensor;

/// `value`, a function of x that is known with its `slope`: both are constants to autodiff, which sees
/// `value + slope·(x − x)`. There are no second derivatives, and nothing depends on how autodiff treats kinks.
pub(crate) fn with_slope(x: Tensor<1>, value: Tensor<1>, slope: Tensor<1>) -> Tensor<1> {
    let at = x.clone().inner();
    // ∞ − ∞ is not 0.
    let nothing = (x - at.clone()).mask_fill(at.is_inf(), 0.0);
    nothing * slope + value
}

/// softplus(−x) = log(1 + e⁻ˣ) and σ(−x), from one exponential.
pub(crate) fn logistic(x: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
    let small = x.clone().abs().neg().exp();
    let sum = small.clone() + 1.0;
    let softplus = sum.clone().log() - x.clone().clamp_max(0.0);
    (softplus, small.mask_fill(x.lower_elem(0.0), 1.0) / sum)
}

/// σ(x), value and slope from one exponential.
pub(crate) fn sigmoid(x: Tensor<1>) -> Tensor<1> {
    let at = x.clone().inner();
    let small = at.clone().abs().neg().exp();
    let larger = (small.clone() + 1.0).recip();
    let smaller = small * larger.clone();
    let slope = smaller.clone() * larger.clone();
    with_slope(x, larger.mask_where(at.lower_elem(0.0), smaller), slope)
}

/// log σ(x): faster than burn's, which takes another exponential on the way back and a slow `log1p`, and within an ulp
/// of 1 of it. At x = 0, where a refreshed policy stands, the autodiff gradient of `min(x, 0) − log1p(e^−|x|)` would be
/// off by ½.
pub(crate) fn log_sigmoid(x: Tensor<1>) -> Tensor<1> {
    let (softplus, slope) = logistic(x.clone().inner());
    with_slope(x, softplus.neg(), slope)
}

/// log(1 + eˣ).
pub(crate) fn softplus(x: Tensor<1>) -> Tensor<1> {
    log_sigmoid(x.neg()).neg()
}

/// eˣ − 1 without cancellation near 0, where it is tanh(x/2)·(eˣ + 1). The slope is eˣ.
pub(crate) fn expm1(x: Tensor<1>) -> Tensor<1> {
    let at = x.clone().inner();
    let near = at.clone().abs().lower_elem(0.5);
    let exp = at.clone().exp();
    let exact = (at * 0.5).tanh() * (exp.clone() + 1.0);
    with_slope(x, (exp.clone() - 1.0).mask_where(near, exact), exp)
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
