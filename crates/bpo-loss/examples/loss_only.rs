//! A loss and nothing else of this project: a policy of two numbers per pair learns the preferences of four pairs.
//!
//!     cargo run --release -p bpo-loss --example loss_only
//!     cargo run --release -p bpo-loss --example loss_only -- 'expr: softplus(-beta*rho)'
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use std::error::Error;

use bpo_loss::{LossType, Objective, PairLogps, Term};
use burn::tensor::{Device, Tensor};

fn main() -> Result<(), Box<dyn Error>> {
    let loss_type: LossType = std::env::args().nth(1).unwrap_or_else(|| "sigmoid".into()).parse()?;
    let objective = Objective { terms: vec![Term { loss_type, weight: 1.0 }], ..Objective::default() };
    let device = Device::flex().autodiff();
    let row = |values: [f32; 4]| Tensor::<1>::from_floats(values, &device);

    // Σ log π_ref of the chosen and the rejected completion of each pair; the policy starts there.
    let reference = PairLogps::new(row([-12.0, -9.0, -30.0, -7.5]), row([-11.0, -13.0, -28.0, -8.0]))?;
    let mut chosen = row([-12.0, -9.0, -30.0, -7.5]);
    let mut rejected = row([-11.0, -13.0, -28.0, -8.0]);
    let mut means = Vec::new();
    for step in 0..=40 {
        let (leaf, other) = (chosen.clone().inner(), rejected.clone().inner());
        let (leaf, other) = (Tensor::from_inner(leaf).require_grad(), Tensor::from_inner(other).require_grad());
        let losses = objective.losses(&PairLogps::new(leaf.clone(), other.clone())?, &reference)?; // [pairs]
        let mean = losses.clone().inner().mean().into_scalar::<f32>();
        means.push(mean);
        if step % 10 == 0 {
            println!("step {step:>2}: loss {mean:.4}");
        }
        let gradients = losses.sum().backward();
        let moved = |leaf: Tensor<1>| match leaf.grad(&gradients) {
            Some(gradient) => leaf.inner() - gradient * 5.0,
            None => leaf.inner(),
        };
        (chosen, rejected) = (Tensor::from_inner(moved(leaf)), Tensor::from_inner(moved(other)));
    }
    assert!(means[40] < means[0], "the loss falls: {means:?}");
    Ok(())
}
