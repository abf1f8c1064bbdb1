//! Writes GGUF files, well formed or not, for the tests of several crates.
#![allow(dead_code, reason = "each of its users uses its part")]

/// A value of metadata.
#[derive(Clone)]
pub enum Meta<'a> {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(&'a str),
    Texts(Vec<&'a str>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    /// Type and bytes as they are.
    Raw(u32, Vec<u8>),
}

/// A file in the making.
#[derive(Clone, Default)]
pub struct File {
    pairs: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
}

/// ggml's numbers of types.
pub const F32: u32 = 0;
pub const F16: u32 = 1;
pub const BF16: u32 = 30;
pub const Q8_0: u32 = 8;

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A list of `kind` with its length.
fn list(kind: u32, items: Vec<Vec<u8>>) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes(), &items.concat()].concat()
}

impl Meta<'_> {
    fn encoded(&self) -> Vec<u8> {
        let (kind, bytes) = match self {
            Self::U32(value) => (4, value.to_le_bytes().to_vec()),
            Self::F32(value) => (6, value.to_le_bytes().to_vec()),
            Self::Bool(value) => (7, vec![u8::from(*value)]),
            Self::Text(value) => (8, text(value)),
            Self::Texts(values) => (9, list(8, values.iter().map(|value| text(value)).collect())),
            Self::I32s(values) => (9, list(5, values.iter().map(|value| value.to_le_bytes().to_vec()).collect())),
            Self::F32s(values) => (9, list(6, values.iter().map(|value| value.to_le_bytes().to_vec()).collect())),
            Self::Raw(kind, bytes) => (*kind, bytes.clone()),
        };
        [&u32::to_le_bytes(kind)[..], &bytes].concat()
    }
}

impl File {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: Meta<'_>) -> Self {
        self.pairs.push([text(key), value.encoded()].concat());
        self
    }

    /// A tensor at the next free place; `shape` slowest first.
    #[must_use]
    pub fn tensor(self, name: &str, shape: &[usize], kind: u32, bytes: &[u8]) -> Self {
        let offset = self.data.len() as u64;
        self.tensor_at(name, shape, kind, offset, bytes)
    }

    /// A tensor that says it lies at `offset`.
    #[must_use]
    pub fn tensor_at(mut self, name: &str, shape: &[usize], kind: u32, offset: u64, bytes: &[u8]) -> Self {
        let sizes = shape.iter().rev().flat_map(|size| (*size as u64).to_le_bytes()).collect::<Vec<u8>>();
        let dimensions = (shape.len() as u32).to_le_bytes();
        self.tensors.push(
            [text(name), dimensions.to_vec(), sizes, kind.to_le_bytes().to_vec(), offset.to_le_bytes().to_vec()]
                .concat(),
        );
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self
    }

    /// Floats as they are.
    #[must_use]
    pub fn floats(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, shape, F32, &bytes)
    }

    /// The whole file.
    pub fn bytes(&self) -> Vec<u8> {
        self.counting(self.tensors.len() as u64, self.pairs.len() as u64)
    }

    /// The whole file with other counts of tensors and pairs.
    pub fn counting(&self, tensors: u64, pairs: u64) -> Vec<u8> {
        let mut file = [b"GGUF", &3_u32.to_le_bytes()[..], &tensors.to_le_bytes(), &pairs.to_le_bytes()].concat();
        file.extend(self.pairs.concat());
        file.extend(self.tensors.concat());
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(&self.data);
        file
    }
}
