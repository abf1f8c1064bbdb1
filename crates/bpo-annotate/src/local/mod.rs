//! A language model of this machine as judge: asked as [`chat`](crate::ChatConfig) asks, without a server.

mod judge;
mod ranker;

pub use ranker::{PairRanker, PairScorer};

pub(crate) use judge::{LocalJudge, LocalRater, Settings, Told};

/// What a local judge reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// A system message.
    pub system: Option<String>,
    /// The user's message.
    pub user: String,
}

/// What a local judge wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// Whether it ended by itself.
    pub ended: bool,
}

/// A language model that answers questions; the program supplies it. Both ways to ask are deterministic.
pub trait LocalModel {
    /// A name for logs and the run record.
    fn name(&self) -> String;

    /// log P(answer | question) in nats of each of `answers` as the beginning of the reply, `[questions][answers]`; of a
    /// question that cannot be read, why not.
    ///
    /// # Errors
    /// A message, when no further question can be answered.
    fn answer_logps(
        &mut self,
        questions: &[Question],
        answers: &[String],
    ) -> Result<Vec<Result<Vec<f64>, String>>, String>;

    /// The most probable reply to each question, token by token, `max_new_tokens` at most.
    ///
    /// # Errors
    /// As [`LocalModel::answer_logps`].
    fn replies(&mut self, questions: &[Question], max_new_tokens: usize) -> Result<Vec<Result<Reply, String>>, String>;
}
