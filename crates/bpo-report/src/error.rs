use std::path::PathBuf;

/// Why a run cannot be reported on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder holds no run.
    #[error("{} is no run: it has no recipe.toml", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds something that was finished without a step, as an evaluation is.
    #[error("{} took no steps, so there is nothing to draw; its results are in finished.json", path.display())]
    NoSteps {
        /// The folder.
        path: PathBuf,
    },
    /// A file of the run is not what a run writes.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A figure is not drawn as a picture.
    #[error("a figure cannot be drawn: {reason}")]
    Drawing {
        /// Why.
        reason: String,
    },
    /// The journal cannot be read.
    #[error(transparent)]
    Store(#[from] bpo_store::Error),
}
