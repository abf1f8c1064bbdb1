use std::collections::{BTreeMap, HashMap};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorInfo, TensorView},
};

use crate::Error;

/// Trainable tensors by name, in a fixed order. Vectors are held as `[1, n]`, so that an optimiser has
/// one rank to deal with. Cloning shares the tensors.
#[derive(Debug, Clone, Default)]
pub struct Parameters(BTreeMap<String, Tensor<2>>);

impl Parameters {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces one tensor.
    pub fn insert(&mut self, name: String, tensor: Tensor<2>) {
        self.0.insert(name, tensor);
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor<2>> {
        self.0.get(name)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor<2>)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// How many tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many scalars.
    pub fn count(&self) -> usize {
        self.0.values().map(|tensor| tensor.dims().iter().product::<usize>()).sum()
    }

    /// Each tensor changed by `f`.
    #[must_use]
    pub fn map(&self, mut f: impl FnMut(&str, Tensor<2>) -> Tensor<2>) -> Self {
        Self(self.0.iter().map(|(name, tensor)| (name.clone(), f(name, tensor.clone()))).collect())
    }

    /// Leaves of a new autodiff graph.
    #[must_use]
    pub fn tracked(&self) -> Self {
        self.map(|_, tensor| tensor.autodiff().require_grad())
    }

    /// A safetensors file of f32 with exactly these bits: the same parameters give the same bytes.
    ///
    /// # Errors
    /// [`Error::Input`] when a tensor cannot be read back from its device.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(4 * self.count());
        self.write_to(|piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), Error>(())
        })?;
        Ok(bytes)
    }

    /// [`Parameters::to_bytes`] in pieces, one tensor after the other: no more than one is held on the host.
    ///
    /// # Errors
    /// Those of [`Parameters::to_bytes`], and those of `sink`.
    pub fn write_to<E: From<Error>>(&self, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        sink(&self.header()?)?;
        self.0.values().try_for_each(|tensor| sink(&to_le_bytes(tensor)?))
    }

    /// What stands before the tensors in a safetensors file, padded to eight bytes.
    fn header(&self) -> Result<Vec<u8>, Error> {
        let mut end = 0;
        let info = |(name, tensor): (&String, &Tensor<2>)| {
            let (begin, shape) = (end, tensor.dims().to_vec());
            end += shape.iter().product::<usize>() * size_of::<f32>();
            (name.clone(), TensorInfo { dtype: Dtype::F32, shape, data_offsets: (begin, end) })
        };
        let unfit = |error: String| Error::Input(error);
        let metadata = Metadata::new(None, self.0.iter().map(info).collect()).map_err(|e| unfit(e.to_string()))?;
        let mut text = serde_json::to_vec(&metadata).map_err(|e| unfit(e.to_string()))?;
        text.resize(text.len().next_multiple_of(8), b' ');
        Ok([&(text.len() as u64).to_le_bytes(), &text[..]].concat())
    }

    /// Reads what [`Parameters::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Files`] naming `what`.
    pub fn from_bytes(what: &str, bytes: &[u8], device: &Device) -> Result<Self, Error> {
        let damaged = |reason: String| Error::from(bpo_files::Error::Safetensors { path: what.into(), reason });
        let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
        let mut parameters = Self::new();
        for (name, view) in file.iter() {
            let [rows, columns] = view.shape() else { return Err(damaged(format!("{name} is not a matrix"))) };
            let values: Vec<f32> =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            if view.dtype() != Dtype::F32 || values.len() != rows * columns {
                return Err(damaged(format!("{name} is not f32")));
            }
            let tensor = Tensor::from_data(TensorData::new(values, [*rows, *columns]), device);
            parameters.insert(name.to_string(), tensor);
        }
        Ok(parameters)
    }
}

/// Name, shape and little-endian bytes of a tensor on its way into a file.
pub(crate) type Written = (String, Vec<usize>, Vec<u8>);

/// The metadata that transformers and PEFT look for.
pub(crate) fn torch_format() -> HashMap<String, String> {
    [("format".to_string(), "pt".to_string())].into()
}

/// A safetensors file; the same tensors give the same bytes.
pub(crate) fn safetensors_file(
    dtype: Dtype,
    tensors: &[Written],
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, Error> {
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, shape, bytes)| TensorView::new(dtype, shape.clone(), bytes).map(|view| (name.as_str(), view)))
        .collect();
    let file = views.and_then(|views| safetensors::serialize(views, metadata));
    file.map_err(|error| Error::Input(error.to_string()))
}

/// Host copy of a tensor as little-endian f32.
pub(crate) fn to_le_bytes<const D: usize>(tensor: &Tensor<D>) -> Result<Vec<u8>, Error> {
    let values: Vec<f32> = tensor.try_to_vec_as().map_err(|e| Error::Input(format!("reading a tensor back: {e}")))?;
    Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect())
}
