//! A feed-forward block of fused operations with its gradient, against the same of burn's own operations.
//!
//!     cargo run --release -p bpo-kernels --features flex --example feed_forward
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use bpo_kernels::{linear, rms_norm, swiglu};
use burn::tensor::{Device, Distribution, Tensor, activation::silu};

fn main() {
    let device = Device::flex().autodiff();
    let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Uniform(-0.5, 0.5), &device);
    let (x, gate, up, down) = (random([4, 32]).require_grad(), random([64, 32]), random([64, 32]), random([32, 64]));
    let norm = Tensor::<1>::ones([32], &device);

    let fused = rms_norm(x.clone(), norm, 1e-5);
    let fused = linear(swiglu(linear(fused.clone(), gate.clone()), linear(fused, up.clone())), down.clone());
    let mean_square = x.clone().powi_scalar(2).mean_dim(1);
    let plain = x.clone() / (mean_square + 1e-5).sqrt();
    let plain = (silu(plain.clone().matmul(gate.transpose())) * plain.matmul(up.transpose())).matmul(down.transpose());

    let far = |a: Tensor<2>, b: Tensor<2>| (a - b).abs().max().into_scalar::<f32>();
    let values = far(fused.clone().inner(), plain.clone().inner());
    let gradient = |of: Tensor<2>| x.grad(&of.sum().backward());
    let (Some(a), Some(b)) = (gradient(fused), gradient(plain)) else { unreachable!("x is a leaf of both") };
    let slopes = far(a, b);
    println!("values differ by {values:.1e}, gradients by {slopes:.1e}");
    assert!(values < 1e-4 && slopes < 1e-4);
}
