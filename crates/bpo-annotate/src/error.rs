use std::path::PathBuf;

/// Why an annotator could not be built, or could not go on.
///
/// A single unanswered question is not an error but an
/// [`Abstention`](crate::Abstention); an error means that no further question can be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A lexicon line that is not `token <tab> number`.
    #[error("lexicon {name}, line {line}: {reason}")]
    LexiconLine {
        /// The file or the name given to the bytes.
        name: String,
        /// Counted from one.
        line: usize,
        /// What is wrong with the line.
        reason: String,
    },
    /// A lexicon without a single word.
    #[error("lexicon {name} holds no words")]
    LexiconEmpty {
        /// The file or the name given to the bytes.
        name: String,
    },
    /// A regular expression that does not compile.
    #[error("regex `{pattern}`: {source}")]
    Pattern {
        /// The pattern as written.
        pattern: String,
        /// The parser's complaint.
        source: Box<regex::Error>,
    },
    /// An annotator setting that contradicts another or has no effect.
    #[error("annotator: {0}")]
    Config(String),
    /// A command line that cannot be split into words.
    #[error("annotator command `{line}`: {reason}")]
    CommandLine {
        /// The line as written.
        line: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The program could not be started.
    #[error("annotator command `{program}` does not start: {source}")]
    CommandStart {
        /// The program and its arguments.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program ended, or closed its output, while an answer was due.
    #[error("annotator command `{program}` died ({status}){}", told(stderr))]
    CommandDied {
        /// The program and its arguments.
        program: String,
        /// Its exit status in words.
        status: String,
        /// The last 4 KiB of its standard error.
        stderr: String,
    },
    /// The program failed to answer several questions in a row.
    #[error(
        "annotator command `{program}` left {unanswered} questions in a row unanswered, \
         the last one because: {reason}{}",
        told(stderr)
    )]
    CommandUnusable {
        /// The program and its arguments.
        program: String,
        /// How many questions in a row.
        unanswered: u32,
        /// Why the last one counts as unanswered.
        reason: String,
        /// The last 4 KiB of its standard error.
        stderr: String,
    },
    /// The program answered a question nobody asked, so no answer can be trusted.
    #[error("annotator command `{program}` is out of step at question {asked}: {reason}{}", told(stderr))]
    CommandOutOfStep {
        /// The program and its arguments.
        program: String,
        /// The id of the question that was due.
        asked: u64,
        /// What came instead.
        reason: String,
        /// The last 4 KiB of its standard error.
        stderr: String,
    },
    /// A service that can answer no question: another path, another model or another key is needed.
    #[error("annotator {url}: {}{reason}{}", with_status(*status), advice(*status))]
    Endpoint {
        /// The address asked.
        url: String,
        /// The HTTP status of the reply, where there was one.
        status: Option<u16>,
        /// What the server said, without the key.
        reason: String,
    },
    /// The environment has no key where the settings say.
    #[error("annotator: {0}")]
    Key(String),
    /// A prompt template that does not compile or render.
    #[error("annotator template {name}: {reason}")]
    Template {
        /// The file, or which built-in one.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The folder of answers cannot be used.
    #[error("annotator cache {}: {source}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// As much was asked as the settings allow.
    #[error(
        "annotator: the budget of {limit} {what} is spent; the answers so far are kept and will not be asked for again"
    )]
    Budget {
        /// `questions` or `tokens`.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
    /// The annotator abstains too often to be asked any more.
    #[error("the annotator gave no answer to {abstained} of the last {asked} questions (last reason: {reason})")]
    TooManyAbstentions {
        /// Questions without an answer.
        abstained: usize,
        /// Questions looked back on.
        asked: usize,
        /// Why the last one had none.
        reason: String,
    },
    /// An annotator or scorer gave more or fewer answers than it was asked for.
    #[error("annotator {name} was asked for {asked} answers and gave {given}")]
    WrongCount {
        /// The annotator.
        name: String,
        /// Questions asked.
        asked: usize,
        /// Answers given.
        given: usize,
    },
    /// A scorer that the caller supplies could not be loaded.
    #[error("annotator {name}: {reason}")]
    Load {
        /// The scorer, or the folder it was to come from.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A scorer supplied by the caller failed.
    #[error("annotator {name}: {reason}")]
    Scorer {
        /// The scorer.
        name: String,
        /// What it said.
        reason: String,
    },
}

fn with_status(status: Option<u16>) -> String {
    status.map_or_else(|| "no reply: ".to_owned(), |status| format!("HTTP {status}: "))
}

/// What to do about a status.
fn advice(status: Option<u16>) -> &'static str {
    match status {
        Some(401 | 403) => "; is the key in the variable that `api_key_env` names the right one?",
        Some(404 | 405) => "; are `url` (up to and with /v1) and `model` right?",
        Some(300..=399) => "; redirects are not followed: give the final address",
        Some(_) => "",
        None => "; is the server running, and `url` its address?",
    }
}

fn told(stderr: &str) -> String {
    match stderr.trim() {
        "" => String::new(),
        text => format!("; it said: {text}"),
    }
}

impl Error {
    /// `Ok` when `given` answers match `asked` questions.
    pub(crate) fn unless_counts_match(name: impl FnOnce() -> String, asked: usize, given: usize) -> Result<(), Self> {
        if asked == given {
            return Ok(());
        }
        Err(Self::WrongCount { name: name(), asked, given })
    }
}
