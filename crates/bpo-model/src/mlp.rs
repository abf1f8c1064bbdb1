use bpo_kernels::swiglu;
use burn::tensor::{
    Tensor,
    activation::{gelu, gelu_approximate, relu, silu},
};

use crate::{Activation, linear::Linear};

/// The feed-forward block of a layer.
#[derive(Debug, Clone)]
pub(crate) struct Mlp {
    pub grow: Grow,
    pub down: Linear,
}

/// What makes the wide activations that `down` reads.
#[derive(Debug, Clone)]
pub(crate) enum Grow {
    /// `act(gate(x)) · up(x)` of gate and up (Shazeer 2020, arXiv:2002.05202).
    Gated(Box<[Linear; 2]>),
    /// The same, with gate and up as the halves of one layer's outputs.
    Fused(Linear),
    /// `act(up(x))`.
    Plain(Linear),
}

impl Mlp {
    /// `x`: `[tokens, hidden]`.
    pub fn forward(&self, x: Tensor<2>, activation: Activation) -> Tensor<2> {
        self.down.forward(match &self.grow {
            Grow::Gated(both) => {
                let gate = both[0].forward(x.clone());
                activation.gated(gate, both[1].forward(x))
            }
            Grow::Fused(both) => {
                let both = both.forward(x);
                let half = both.dims()[1] / 2;
                activation.gated(both.clone().narrow(1, 0, half), both.narrow(1, half, half))
            }
            Grow::Plain(up) => activation.of(up.forward(x)),
        })
    }

    pub fn linears(&self) -> Vec<&Linear> {
        match &self.grow {
            Grow::Gated(both) => both.iter().chain([&self.down]).collect(),
            Grow::Fused(one) | Grow::Plain(one) => vec![one, &self.down],
        }
    }

    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match &mut self.grow {
            Grow::Gated(both) => both.iter_mut().chain([&mut self.down]).collect(),
            Grow::Fused(one) | Grow::Plain(one) => vec![one, &mut self.down],
        }
    }
}

impl Activation {
    pub(crate) fn of<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Silu => silu(x),
            Self::Gelu => gelu(x),
            Self::GeluTanh => gelu_approximate(x),
            Self::Relu => relu(x),
        }
    }

    fn gated(self, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Silu => swiglu(gate, up),
            _ => self.of(gate) * up,
        }
    }
}
