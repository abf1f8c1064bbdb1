//! How a command can end: one exit code per kind of failure, and a message with its causes.
use std::{
    fmt::Display,
    io::{self, Write},
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use crate::{device, nearest, out::printable};

/// Kinds of failure; the number is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whoever read standard output has seen enough: no failure, and no message.
    ClosedOutput = 0,
    /// Flags or configuration.
    Usage = 2,
    /// A model, an adapter or data.
    Input = 3,
    /// The run directory, or another place that cannot be written to.
    Run = 4,
    /// The annotator.
    Annotator = 5,
    /// NaN or infinity where there must be none.
    Numerics = 6,
    /// A bug.
    Internal = 70,
    /// Ctrl-C; the run can be resumed.
    Interrupted = 130,
}

impl Kind {
    /// The kind that a child's exit code stands for; a bug where it stands for none.
    pub fn of_code(code: i32) -> Self {
        let kinds = [Self::Usage, Self::Input, Self::Run, Self::Annotator, Self::Numerics, Self::Interrupted];
        kinds.into_iter().find(|&kind| kind as i32 == code).unwrap_or(Self::Internal)
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    error: anyhow::Error,
}

impl Failure {
    /// A failure of `kind` for the reason `error`.
    pub fn new(kind: Kind, error: impl Into<anyhow::Error>) -> Self {
        Self { kind, error: error.into() }
    }

    /// A failure in words.
    pub fn message(kind: Kind, message: impl Display) -> Self {
        Self { kind, error: anyhow::Error::msg(message.to_string()) }
    }

    /// [`Kind::Usage`] in words.
    pub fn usage(message: impl Display) -> Self {
        Self::message(Kind::Usage, message)
    }

    /// [`Kind::Input`] in words.
    pub fn input(message: impl Display) -> Self {
        Self::message(Kind::Input, message)
    }

    /// A run that was asked to stop after `step` steps.
    pub fn interrupted(step: u64) -> Self {
        Self::message(Kind::Interrupted, format!("interrupted after step {step}; the same command goes on"))
    }

    /// Says what was being done; the reason becomes the cause.
    #[must_use]
    pub fn context(self, what: impl Display) -> Self {
        Self { error: self.error.context(what.to_string()), ..self }
    }

    /// The kind.
    #[cfg(test)]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message with its causes, one per line; a cause that its effect already tells is left out.
    pub fn text(&self) -> String {
        let mut text = self.error.to_string();
        for cause in self.error.chain().skip(1).map(ToString::to_string) {
            if !text.contains(&cause) {
                text.push_str("\n  because: ");
                text.push_str(&cause);
            }
        }
        if let Some(word) = nearest::meant(&text).map(str::to_owned) {
            text.push_str(&format!("; did you mean `{word}`?"));
        }
        text
    }
}

/// A file could not be read or written: the path and what the system said.
pub fn io_failure(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::input(format!("{}: {error}", path.display()))
}

/// Says on standard error what is odd and does not end the command.
pub fn warn(text: &str) {
    // If standard error is closed, there is nobody to tell.
    let _ = writeln!(io::stderr(), "warning: {}", printable(text));
}

/// Message and place of the last panic.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Runs a command; a panic becomes an internal error without a stack trace on the terminal.
pub fn guarded(command: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(remember));
    }
    caught(command).unwrap_or_else(|told| {
        Err(Failure::message(Kind::Internal, format!("internal error, which should not happen: {told}")))
    })
}

/// What `work` returns, or what it said when it panicked.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        let told = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
        told.unwrap_or_else(|| "see above".to_owned())
    })
}

fn remember(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
    let said = panic.payload_as_str().unwrap_or("no message");
    *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{said}{place}"));
}

/// Reports a failure on standard error and gives the exit code.
pub fn exit(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if failure.kind != Kind::ClosedOutput {
        // If standard error is closed, there is nobody to tell.
        let _ = writeln!(io::stderr(), "error: {}", printable(&failure.text()));
    }
    ExitCode::from(failure.kind as u8)
}

impl From<device::Error> for Failure {
    fn from(error: device::Error) -> Self {
        Self::new(Kind::Usage, error)
    }
}

impl From<bpo_data::Error> for Failure {
    fn from(error: bpo_data::Error) -> Self {
        Self::new(Kind::Input, error)
    }
}

impl From<bpo_model::Error> for Failure {
    fn from(error: bpo_model::Error) -> Self {
        let is_setting = matches!(error, bpo_model::Error::Target(_));
        Self::new(if is_setting { Kind::Usage } else { Kind::Input }, error)
    }
}

impl From<bpo_store::Error> for Failure {
    fn from(error: bpo_store::Error) -> Self {
        // A NaN on its way into the journal: what it was computed from is at fault, not the folder.
        let is_number = matches!(error, bpo_store::Error::JournalNotFinite { .. });
        Self::new(if is_number { Kind::Numerics } else { Kind::Run }, error)
    }
}

impl From<bpo_annotate::Error> for Failure {
    fn from(error: bpo_annotate::Error) -> Self {
        use bpo_annotate::Error::{
            Cache, CommandLine, Config, Key, LexiconEmpty, LexiconLine, Load, Pattern, Read, Template,
        };
        let kind = match error {
            Config(_) | Pattern { .. } | CommandLine { .. } | Key(_) | Template { .. } => Kind::Usage,
            Cache { .. } => Kind::Run,
            Read { .. } | LexiconLine { .. } | LexiconEmpty { .. } | Load { .. } => Kind::Input,
            _ => Kind::Annotator,
        };
        Self::new(kind, error)
    }
}

impl From<bpo_service::Error> for Failure {
    fn from(error: bpo_service::Error) -> Self {
        let kind = match error {
            bpo_service::Error::Config(_) => Kind::Usage,
            bpo_service::Error::Write { .. } => Kind::Run,
            _ => Kind::Annotator,
        };
        Self::new(kind, error)
    }
}

impl From<bpo_sampler::Error> for Failure {
    fn from(error: bpo_sampler::Error) -> Self {
        use bpo_sampler::Error::{BadParameter, NonFiniteLogits};
        let kind = match error {
            BadParameter { .. } => Kind::Usage,
            NonFiniteLogits { .. } => Kind::Numerics,
            _ => Kind::Input,
        };
        Self::new(kind, error)
    }
}

impl From<bpo_loss::Error> for Failure {
    fn from(error: bpo_loss::Error) -> Self {
        use bpo_loss::Error::{
            BadHyperparameter, Expression, LossExpression, NoDivergence, TokenOutOfVocabulary, UnknownLoss,
        };
        let kind = match error {
            BadHyperparameter { .. } | NoDivergence { .. } | UnknownLoss { .. } => Kind::Usage,
            Expression(_) | LossExpression { .. } => Kind::Usage,
            TokenOutOfVocabulary { .. } => Kind::Input,
            _ => Kind::Internal,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = io::Error::other("the disk is full");
        let failure = Failure::new(Kind::Input, cause).context("writing x").context("merging");
        assert_eq!(failure.text(), "merging\n  because: writing x\n  because: the disk is full");
        let source = io::Error::other("gone");
        let failure = Failure::from(bpo_data::Error::Io { path: "a".into(), source });
        assert_eq!(failure.text(), "a: gone");
    }

    #[test]
    fn a_panic_is_an_internal_error() {
        let failure = guarded(|| panic!("boom")).unwrap_err();
        assert_eq!(failure.kind(), Kind::Internal);
    }

    #[test]
    fn a_bad_parameter_is_usage_and_bad_logits_are_numerics() {
        let bad = bpo_sampler::Error::BadParameter { name: "top_p", value: 2.0, requirement: "must lie in (0, 1]" };
        assert_eq!(Failure::from(bad).kind(), Kind::Usage);
        let nan = bpo_sampler::Error::NonFiniteLogits { prompt: 0, position: 0 };
        assert_eq!(Failure::from(nan).kind(), Kind::Numerics);
    }
}
