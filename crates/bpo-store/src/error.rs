use std::path::PathBuf;

/// What can go wrong with a run's folder. Every message names the file and the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// The run's path is a file.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// Where a file of the run should be there is a link, a pipe or a folder.
    #[error("{} is not a plain file, as the files of a run are", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The run's folder holds files, but no run.
    #[error(
        "{} is not empty and holds no run (neither `recipe.toml` nor `lock`, but `{found}`)",
        path.display()
    )]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// One of the names found in it.
        found: String,
    },
    /// Another process has the run open.
    #[error(
        "{} is in use by {}", path.display(),
        pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The run's folder.
        path: PathBuf,
        /// The process that holds it, when it could be read.
        pid: Option<u32>,
    },
    /// A file name that leaves its folder, or that is reserved.
    #[error("`{name}` cannot be a file name here: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The file is not a journal, or one of another version.
    #[error("{} is not a journal of this version", path.display())]
    JournalFormat {
        /// The file.
        path: PathBuf,
    },
    /// A record that is not the last one is damaged.
    #[error("journal {}, offset {offset}: {reason}", path.display())]
    JournalDamaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The journal has this record already.
    #[error("journal {}: step {step} has a record `{kind}` already", path.display())]
    JournalDuplicate {
        /// The file.
        path: PathBuf,
        /// The record's step.
        step: u64,
        /// The record's kind.
        kind: String,
    },
    /// A record too large to be written.
    #[error("journal {}: record `{kind}` of step {step} is too large", path.display())]
    JournalTooLarge {
        /// The file.
        path: PathBuf,
        /// The record's step.
        step: u64,
        /// The record's kind.
        kind: String,
    },
    /// A value holds a NaN or an infinity, which JSON would silently turn into `null`.
    #[error("journal: the value `{kind}` of step {step} holds {number}, which JSON cannot")]
    JournalNotFinite {
        /// The record's step.
        step: u64,
        /// The record's kind.
        kind: String,
        /// The number.
        number: f64,
    },
    /// A value that does not become JSON, or a record that is not the value expected.
    #[error("journal: cannot {action} the value `{kind}` of step {step}: {source}")]
    JournalValue {
        /// `write` or `read`.
        action: &'static str,
        /// The record's step.
        step: u64,
        /// The record's kind.
        kind: String,
        /// The complaint.
        source: serde_json::Error,
    },
    /// A row that does not become JSON, or that is not there.
    #[error("cannot {action} a row of {}: {reason}", path.display())]
    Row {
        /// `write` or `read`.
        action: &'static str,
        /// Where the rows' file was made.
        path: PathBuf,
        /// The complaint.
        reason: String,
    },
    /// A line of the metrics is not what was once written there.
    #[error("{}, line {line}: {reason}", path.display())]
    MetricsDamaged {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A metrics record without a step.
    #[error("{}: a record must be an object with a whole number `step`", path.display())]
    MetricsRecord {
        /// The file.
        path: PathBuf,
    },
    /// Checkpoints existed, and none of them can be trusted.
    #[error(
        "no intact checkpoint is left in {}; damaged ones are kept in {}",
        path.display(), quarantine.display()
    )]
    NoIntactCheckpoint {
        /// The folder of checkpoints.
        path: PathBuf,
        /// Where the damaged ones are.
        quarantine: PathBuf,
    },
    /// A file of a checkpoint is not what its manifest says.
    #[error("checkpoint {}: {reason}", path.display())]
    CheckpointDamaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint made by another version of this program.
    #[error("checkpoint {} has format {format}; this program knows format 1", path.display())]
    CheckpointFormat {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The format it has.
        format: u32,
    },
    /// A checkpoint has no file of this name.
    #[error("checkpoint {} has no file `{name}`", path.display())]
    CheckpointFile {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
    /// A checkpoint was to hold the same name twice.
    #[error("a checkpoint cannot hold `{name}` twice")]
    CheckpointTwice {
        /// The name.
        name: String,
    },
}
