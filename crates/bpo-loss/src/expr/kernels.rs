//! Operations on one value or on tensors of them.
use burn::tensor::{Tensor, activation};

use super::program::{Batch, Comparison, Map};

/// Numbers, and conditions as 1 or 0.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a tensor is a handle, and most values are tensors")]
pub(super) enum Value {
    Scalar(f64),
    /// `[1]` or `[pairs]`
    Tensor(Tensor<1>),
}

impl Value {
    /// `[1]` or `[pairs]`, on the device and in the precision of `like`.
    pub fn tensor(self, like: &Tensor<1>) -> Tensor<1> {
        match self {
            Self::Scalar(value) => Tensor::full([1], value, (&like.device(), like.dtype())),
            Self::Tensor(tensor) => tensor,
        }
    }

    pub fn detach(self) -> Self {
        match self {
            Self::Tensor(tensor) => Self::Tensor(tensor.detach()),
            scalar => scalar,
        }
    }
}

pub(super) fn negate(x: Value) -> Value {
    match x {
        Value::Scalar(x) => Value::Scalar(-x),
        Value::Tensor(x) => Value::Tensor(x.neg()),
    }
}

pub(super) fn add(x: Value, y: Value) -> Value {
    match (x, y) {
        (Value::Scalar(x), Value::Scalar(y)) => Value::Scalar(x + y),
        (Value::Tensor(x), Value::Scalar(y)) | (Value::Scalar(y), Value::Tensor(x)) => Value::Tensor(x.add_scalar(y)),
        (Value::Tensor(x), Value::Tensor(y)) => Value::Tensor(x + y),
    }
}

pub(super) fn subtract(x: Value, y: Value) -> Value {
    match (x, y) {
        (Value::Scalar(x), Value::Scalar(y)) => Value::Scalar(x - y),
        (Value::Tensor(x), Value::Scalar(y)) => Value::Tensor(x.sub_scalar(y)),
        (Value::Scalar(x), Value::Tensor(y)) => Value::Tensor(y.neg().add_scalar(x)),
        (Value::Tensor(x), Value::Tensor(y)) => Value::Tensor(x - y),
    }
}

pub(super) fn multiply(x: Value, y: Value) -> Value {
    match (x, y) {
        (Value::Scalar(x), Value::Scalar(y)) => Value::Scalar(x * y),
        (Value::Tensor(x), Value::Scalar(y)) | (Value::Scalar(y), Value::Tensor(x)) => Value::Tensor(x.mul_scalar(y)),
        (Value::Tensor(x), Value::Tensor(y)) => Value::Tensor(x * y),
    }
}

pub(super) fn divide(x: Value, y: Value) -> Value {
    match (x, y) {
        (Value::Scalar(x), Value::Scalar(y)) => Value::Scalar(x / y),
        // `div_scalar` would round its gradient's factor to an f32 (burn 0.22).
        (Value::Tensor(x), Value::Scalar(y)) => Value::Tensor(x.mul_scalar(1.0 / y)),
        (Value::Scalar(x), Value::Tensor(y)) => Value::Tensor(y.recip().mul_scalar(x)),
        (Value::Tensor(x), Value::Tensor(y)) => Value::Tensor(x / y),
    }
}

pub(super) fn map(function: Map, x: Value) -> Value {
    match x {
        Value::Scalar(x) => Value::Scalar(map_scalar(function, x)),
        Value::Tensor(x) => Value::Tensor(map_tensor(function, x)),
    }
}

fn map_scalar(function: Map, x: f64) -> f64 {
    match function {
        Map::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Map::LogSigmoid => x.min(0.0) - (-x.abs()).exp().ln_1p(),
        Map::Exp => x.exp(),
        Map::Log => x.ln(),
        Map::Log1p => x.ln_1p(),
        Map::Tanh => x.tanh(),
        Map::Abs => x.abs(),
        Map::Sqrt => x.sqrt(),
    }
}

fn map_tensor(function: Map, x: Tensor<1>) -> Tensor<1> {
    match function {
        Map::Sigmoid => activation::sigmoid(x),
        Map::LogSigmoid => activation::log_sigmoid(x),
        Map::Exp => x.exp(),
        Map::Log => x.log(),
        Map::Log1p => x.log1p(),
        Map::Tanh => x.tanh(),
        Map::Abs => x.abs(),
        Map::Sqrt => x.sqrt(),
    }
}

/// `[pairs]` to `[1]`, or to `[pairs]` for the sort.
pub(super) fn batch(function: Batch, x: Tensor<1>) -> Tensor<1> {
    match function {
        Batch::Mean => x.mean(),
        Batch::Var => variance(x),
        Batch::Std => deviation(variance(x)),
        Batch::Sort => x.sort(0),
    }
}

/// Unbiased. `Tensor::var` divides by a scalar, whose gradient burn 0.22 rounds to an f32.
fn variance(x: Tensor<1>) -> Tensor<1> {
    let [pairs] = x.dims();
    let centred = x.clone() - x.mean();
    centred.square().sum().mul_scalar(1.0 / (pairs as f64 - 1.0))
}

/// The square root, with torch's gradient for a deviation of 0: 0, not ∞.
fn deviation(variance: Tensor<1>) -> Tensor<1> {
    let zero = variance.clone().equal_elem(0.0);
    variance.mask_fill(zero.clone(), 1.0).sqrt().mask_fill(zero, 0.0)
}

/// 1 where it holds, 0 elsewhere.
pub(super) fn compare(comparison: Comparison, x: Tensor<1>, y: Tensor<1>) -> Tensor<1> {
    let length = x.dims()[0].max(y.dims()[0]);
    let (x, y) = (x.expand([length]), y.expand([length]));
    let holds = match comparison {
        Comparison::Less => x.lower(y),
        Comparison::LessEqual => x.lower_equal(y),
        Comparison::Equal => x.equal(y),
    };
    holds.float()
}
