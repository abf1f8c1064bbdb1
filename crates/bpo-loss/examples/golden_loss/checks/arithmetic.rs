use burn::tensor::{Bool, DType, Device, Gradients, Int, Tensor, TensorData};

/// Which numbers a case is computed in, and on which inputs.
#[derive(Debug, Clone, Copy)]
pub struct Arithmetic {
    dtype: DType,
    inputs: Inputs,
}

#[derive(Debug, Clone, Copy)]
enum Inputs {
    Exact,
    /// To the nearest f32.
    Rounded,
    /// To a neighbour of the nearest f32, above or below, as chance has it, where f32 cannot hold the input.
    Nudged(u64),
}

impl Arithmetic {
    /// f64.
    pub const DOUBLE: Self = Self { dtype: DType::F64, inputs: Inputs::Exact };
    /// f32.
    pub const SINGLE: Self = Self { dtype: DType::F32, inputs: Inputs::Rounded };

    /// f64 on inputs that are off by what f32 cannot hold, in several ways.
    pub fn nudged() -> impl Iterator<Item = Self> {
        let inputs = std::iter::once(Inputs::Rounded).chain((1..=NUDGES).map(Inputs::Nudged));
        inputs.map(|inputs| Self { dtype: DType::F64, inputs })
    }

    /// Whether the arithmetic is f64.
    pub fn is_double(self) -> bool {
        self.dtype == DType::F64
    }

    /// A constant.
    pub fn tensor<const D: usize>(self, values: &[f64], shape: [usize; D]) -> Tensor<D> {
        let values: Vec<f64> = values.iter().map(|&value| self.inputs.of(value)).collect();
        Tensor::from_data(TensorData::new(values, shape), (&device(), self.dtype))
    }

    /// A constant vector.
    pub fn row(self, values: &[f64]) -> Tensor<1> {
        self.tensor(values, [values.len()])
    }

    /// Something to differentiate by.
    pub fn leaf<const D: usize>(self, values: &[f64], shape: [usize; D]) -> Tensor<D> {
        self.tensor(values, shape).require_grad()
    }

    /// A vector to differentiate by.
    pub fn leaf_row(self, values: &[f64]) -> Tensor<1> {
        self.leaf(values, [values.len()])
    }
}

/// Ways to nudge.
const NUDGES: u64 = 8;

impl Inputs {
    fn of(self, value: f64) -> f64 {
        let single = value as f32;
        f64::from(match self {
            Self::Exact => return value,
            Self::Rounded => single,
            // Equal inputs move together: they round together. What f32 holds, such as a kink, stays.
            Self::Nudged(_) if f64::from(single) == value => single,
            Self::Nudged(seed) => match (value.to_bits() ^ seed.wrapping_mul(MIX)).wrapping_mul(MIX) >> 63 {
                0 => single.next_up(),
                _ => single.next_down(),
            },
        })
    }
}

/// Odd and without pattern: 2⁶⁴ over the golden ratio.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

fn device() -> Device {
    Device::flex().autodiff()
}

/// Token ids or labels.
pub fn ints<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D, Int> {
    let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
    Tensor::from_data(TensorData::new(values, shape), &device())
}

/// A mask.
pub fn flags(values: &[bool]) -> Tensor<1, Bool> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &device())
}

/// The values of a tensor.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.try_into_vec_as().unwrap()
}

/// The gradient by `leaf`; 0 where the loss does not read it.
pub fn gradient<const D: usize>(leaf: &Tensor<D>, gradients: &Gradients) -> Vec<f64> {
    leaf.grad(gradients).map_or_else(|| vec![0.0; leaf.dims().iter().product()], host)
}
