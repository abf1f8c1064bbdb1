use std::path::PathBuf;

/// Why a model or an adapter could not be read, built or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A JSON file is malformed or holds a value of the wrong type.
    #[error("{path}: {reason}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `config.json` asks for something this crate does not compute.
    #[error("{path}: {key} = {value} is not supported ({supported})")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is.
        supported: String,
    },
    /// A model file cannot be read, or is not what it says it is.
    #[error(transparent)]
    Files(#[from] bpo_files::Error),
    /// A tensor that the configuration asks for is not in the files.
    #[error("{path}: tensor {tensor} is missing")]
    MissingTensor {
        /// The model directory.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A model that should score has no head for it, as a language model has none.
    #[error("{path}: not a reward model: it has no {tensor}")]
    NoScores {
        /// The model directory.
        path: PathBuf,
        /// The head's weight.
        tensor: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{path}: tensor {tensor} has shape {found:?}, the configuration asks for {expected:?}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape by the configuration.
        expected: Vec<usize>,
    },
    /// A tensor is not f32, f16 or bf16.
    #[error("{path}: tensor {tensor} has dtype {dtype}; F32, F16 and BF16 are read")]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: String,
    },
    /// A weight is NaN or infinite.
    #[error("{path}: tensor {tensor} holds a non-finite weight at element {element}")]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Flat index.
        element: usize,
    },
    /// An adapter does not fit the model.
    #[error("adapter {path}: {reason}")]
    Adapter {
        /// The adapter's folder (or what it was made from).
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file holds a weight that its configuration has no place for.
    #[error("{path}: tensor {tensor} is in the file, but the configuration does not use it ({hint})")]
    UnusedTensor {
        /// The model directory.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What to look at.
        hint: String,
    },
    /// A weight does not fit the number format it is written in.
    #[error("tensor {tensor}: {value} is too large for {dtype}; write bfloat16 or float32")]
    Overflow {
        /// The tensor.
        tensor: String,
        /// The weight.
        value: f32,
        /// The number format.
        dtype: &'static str,
    },
    /// `lora_target_modules` does not fit the model.
    #[error("{0}")]
    Target(String),
    /// Adapters cannot be merged as asked.
    #[error("merge: {0}")]
    Merge(String),
    /// Token ids, positions or shapes of an input disagree with the model.
    #[error("input: {0}")]
    Input(String),
}

impl Error {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}
