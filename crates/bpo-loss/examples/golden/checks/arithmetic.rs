use burn::tensor::{Bool, DType, Device, Gradients, Int, Tensor, TensorData};

/// Which numbers a case is computed in.
#[derive(Debug, Clone, Copy)]
pub struct Arithmetic {
    dtype: DType,
    rounded: bool,
}

impl Arithmetic {
    /// f64.
    pub const DOUBLE: Self = Self { dtype: DType::F64, rounded: false };
    /// f64 on inputs rounded to f32.
    pub const ROUNDED: Self = Self { dtype: DType::F64, rounded: true };
    /// f32.
    pub const SINGLE: Self = Self { dtype: DType::F32, rounded: true };

    /// Whether the arithmetic is f64.
    pub fn is_double(self) -> bool {
        self.dtype == DType::F64
    }

    /// A constant.
    pub fn tensor<const D: usize>(self, values: &[f64], shape: [usize; D]) -> Tensor<D> {
        let round = |&value: &f64| if self.rounded { f64::from(value as f32) } else { value };
        let values: Vec<f64> = values.iter().map(round).collect();
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
