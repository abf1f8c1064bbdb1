/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recipe contradicts itself, the model or the data.
    #[error("recipe: {0}")]
    Recipe(String),
    /// The run directory belongs to another recipe.
    #[error("{}: this run was started with another recipe:\n{}\nuse another --run-dir, or the same settings", path.display(), differences.join("\n"))]
    RecipeChanged {
        /// The run directory.
        path: std::path::PathBuf,
        /// One line per key: both values.
        differences: Vec<String>,
    },
    /// The data cannot be trained on.
    #[error("data: {0}")]
    Data(String),
    /// A loss, a gradient or a log-prob is not finite; nothing was updated.
    #[error(
        "step {step}: {what} is not finite; the weights are unchanged{} (prompts {prompts:?})",
        dump.as_ref().map(|path| format!("; the batch is written down in {}", path.display())).unwrap_or_default()
    )]
    NonFinite {
        /// The step.
        step: u64,
        /// What is NaN or infinite.
        what: String,
        /// Ids of the prompts in the batch.
        prompts: Vec<usize>,
        /// Where the batch is written down, if that was possible.
        dump: Option<std::path::PathBuf>,
    },
    /// The run's checkpoint is younger than its journal.
    #[error(
        "{} ends before step {step}, which the newest checkpoint has reached: restore the journal, or move that \
         checkpoint out of the run to go on from an older one",
        path.display()
    )]
    JournalEnds {
        /// The journal.
        path: std::path::PathBuf,
        /// Steps done in the checkpoint.
        step: u64,
    },
    /// The annotator abstains too often; its last answers were not recorded and will be asked for again.
    #[error("the annotator gave no verdict on {abstained} of the last {judged} pairs (last reason: {reason})")]
    Abstentions {
        /// Questions without a verdict.
        abstained: usize,
        /// Questions looked back on.
        judged: usize,
        /// Why the last one had none.
        reason: String,
    },
    /// A server's log-probs, which `sampler.trust_logps` would train on, are not the behaviour's.
    #[error(
        "sampler: the server's log-probs differ from those computed here by {gap:.4} nats a token in the mean, and \
         max_logp_gap is {limit}: it serves other weights, another adapter or another precision; without trust_logps \
         its completions are scored here"
    )]
    Gap {
        /// Mean absolute difference, nats per token.
        gap: f64,
        /// What the recipe allows.
        limit: f64,
    },
    /// The observer asked to stop in the middle of an evaluation.
    #[error("interrupted")]
    Interrupted,
    /// From the model.
    #[error(transparent)]
    Model(#[from] bpo_model::Error),
    /// From the losses.
    #[error(transparent)]
    Loss(#[from] bpo_loss::Error),
    /// From the sampler.
    #[error(transparent)]
    Sampler(#[from] bpo_sampler::Error),
    /// From the data.
    #[error(transparent)]
    Rows(#[from] bpo_data::Error),
    /// From the annotator.
    #[error(transparent)]
    Annotator(#[from] bpo_annotate::Error),
    /// From a server that samples.
    #[error(transparent)]
    Service(#[from] bpo_service::Error),
    /// From the run directory.
    #[error(transparent)]
    Store(#[from] bpo_store::Error),
}
