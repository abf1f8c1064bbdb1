//! `bpo score`: log-probs of given responses, or scores by a reward model or any annotator; one JSON line per row.
mod annotator;
mod batches;
mod causal;
mod reward;
mod rows;

use std::path::PathBuf;

use bpo_model::Dtype;
use clap::{ArgGroup, Args};

use crate::{args::Globals, failure::Failure, source::ModelSource};

const EXAMPLES: &str = "\
Rows are {\"prompt_ids\":[…],\"response_ids\":[…]}, or {\"prompt\":text or messages,\"response\":text};
for a reward model also {\"input_ids\":[…]}, with \"token_type_ids\" where it has them. Lines come out in the order
of the rows. An annotator (docs/annotators.md) scores text; a row without a score is null, and counted.

Examples:
  echo '{\"prompt\":\"The sky is\",\"response\":\" blue.\"}' | bpo score --model ./SmolLM2-135M --input -
  bpo score --input rows.jsonl --annotator '{ kind = \"chat\", url = \"http://127.0.0.1:8000/v1\", mode = \"score\" }'";

/// Log-probs of responses under a model, or scores by a reward model or an annotator
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("scorer").required(true).args(["model", "reward_model", "annotator"])))]
pub struct ScoreArgs {
    /// Language model: a Hugging Face directory, a GGUF file, a name on the hub, or `embedded`
    #[arg(long, value_name = "DIR")]
    pub model: Option<ModelSource>,
    /// Reward model with one label: a Hugging Face directory or a name on the hub
    #[arg(long, value_name = "DIR")]
    pub reward_model: Option<PathBuf>,
    /// An annotator that gives scores, as in a recipe, or a recipe (FILE.toml) that has one; rows are text
    #[arg(long, value_name = "ANNOTATOR", conflicts_with_all = ["tokenizer", "no_eos", "batch_tokens"])]
    pub annotator: Option<String>,
    /// PEFT adapter of the language model
    #[arg(long, value_name = "DIR", conflicts_with_all = ["reward_model", "annotator"])]
    pub adapter: Option<PathBuf>,
    /// What the weights are kept in: auto (a bfloat16 file as it is, where that loses nothing), float32 or bfloat16
    #[arg(long, value_name = "DTYPE", default_value = "auto", conflicts_with = "reward_model")]
    pub dtype: Dtype,
    /// Tokenizer for rows of text [default: the model's]
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,
    /// Rows, JSONL or a JSON array, gzipped or not, or Parquet; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Do not end text responses with EOS
    #[arg(long)]
    pub no_eos: bool,
    /// Also print the log-prob of each response token
    #[arg(long, conflicts_with_all = ["reward_model", "annotator"])]
    pub per_token: bool,
    /// Tokens per batch, padding included
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub batch_tokens: usize,
}

/// Scores every row.
pub fn run(args: &ScoreArgs, globals: &Globals) -> Result<(), Failure> {
    let device = globals.device()?;
    match (&args.model, &args.reward_model, &args.annotator) {
        (Some(model), ..) => causal::run(args, model, &device, globals),
        (None, Some(model), _) => reward::run(args, model, &device, globals),
        (None, None, Some(named)) => annotator::run(args, named, &device, globals),
        (None, None, None) => Err(Failure::usage("one of --model, --reward-model and --annotator is needed")),
    }
}
