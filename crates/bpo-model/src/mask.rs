use std::sync::{Arc, OnceLock};

use bpo_kernels::{CacheView, Visibility};
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Added to the score of a key that must not be seen: its weight is exactly 0.
const HIDDEN: f32 = -1e30;

/// Who sees whom in a batch, and the same as a tensor for attention that no kernel computes.
#[derive(Debug)]
pub(crate) struct Mask {
    visibility: Arc<Visibility>,
    bias: OnceLock<Tensor<5>>,
}

impl Mask {
    pub fn new(visibility: Visibility) -> Self {
        Self { visibility: Arc::new(visibility), bias: OnceLock::new() }
    }

    pub fn visibility(&self) -> &Arc<Visibility> {
        &self.visibility
    }

    /// `[rows, 1, 1, time, time]`, f32, made once: 0 where a query may look.
    pub fn bias(&self, device: &Device) -> Tensor<5> {
        let (rows, queries) = (self.visibility.rows(), self.visibility.queries());
        let time = queries / rows;
        let make = || {
            let mut bias = vec![HIDDEN; queries * time];
            for (query, line) in bias.chunks_exact_mut(time).enumerate() {
                let start = query / time * time;
                self.visibility.of(query).for_each(|range| line[range.start - start..range.end - start].fill(0.0));
            }
            Tensor::from_data(TensorData::new(bias, [rows, 1, 1, time, time]), (&device.clone().inner(), DType::F32))
        };
        self.bias.get_or_init(make).clone()
    }
}

/// What each row of a cache shows to that row's next token; as [`Mask`].
#[derive(Debug)]
pub(crate) struct CacheMask {
    view: Arc<CacheView>,
    bias: OnceLock<Tensor<4>>,
}

impl CacheMask {
    pub fn new(view: CacheView) -> Self {
        Self { view: Arc::new(view), bias: OnceLock::new() }
    }

    pub fn view(&self) -> &Arc<CacheView> {
        &self.view
    }

    /// `[rows, 1, 1, columns]`, f32.
    pub fn bias(&self, device: &Device) -> Tensor<4> {
        let (rows, end) = (self.view.columns().len(), self.view.end());
        let make = || {
            let mut bias = vec![HIDDEN; rows * end];
            for (range, line) in self.view.columns().iter().zip(bias.chunks_exact_mut(end)) {
                line[range.clone()].fill(0.0);
            }
            Tensor::from_data(TensorData::new(bias, [rows, 1, 1, end]), (&device.clone().inner(), DType::F32))
        };
        self.bias.get_or_init(make).clone()
    }
}
