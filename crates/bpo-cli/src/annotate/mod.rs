//! `bpo annotate`: an annotator's preferences between completions, or its scores of them.
mod pairs;
mod scores;
mod sink;

use std::{collections::BTreeMap, path::PathBuf};

use bpo_data::Prompt;
use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use self::sink::Sink;
use crate::{annotator, args::Globals, data::RowSource, failure::Failure};

/// Prompts judged between two looks at the progress.
const BATCH: usize = 16;

const EXAMPLES: &str = "\
Rows are those of `bpo generate --json`, or {\"prompt\",\"completions\":[…]} (or \"responses\"; one
completion in \"text\", \"completion\" or \"response\"). Rows with the same prompt belong together; a
prompt is text or messages. Of K completions, the one with the most wins over the others is chosen
and the one with the fewest rejected, if it lost to the chosen one. What is left out is counted.

Examples:
  bpo generate --model embedded --prompts embedded --samples 4 --json > four.jsonl
  bpo annotate --responses four.jsonl --annotator lexicon > pairs.jsonl
  bpo annotate --responses four.jsonl --both-orders --output pairs.jsonl \\
    --annotator '{ kind = \"command\", program = [\"python3\", \"judge.py\"], mode = \"compare\" }'
  bpo annotate --responses four.jsonl --annotator ./reward-model --scores --score-key outcome
  bpo annotate --responses four.jsonl --annotator http://127.0.0.1:8000/v1 > pairs.jsonl
  bpo annotate --responses four.jsonl --annotator judge.toml --both-orders > pairs.jsonl";

/// Turn completions into preference pairs, or score them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("form").args(["pairs", "scores"])))]
pub struct AnnotateArgs {
    /// Prompts with their completions, JSONL or a JSON array, gzipped or not, or Parquet; `-` is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    responses: PathBuf,
    /// `lexicon`, a VADER file, `length`, a reward model's folder, the address of an OpenAI-compatible server, a
    /// TOML table or list (docs/annotators.md), or a recipe (FILE.toml) that has one
    #[arg(long, value_name = "ANNOTATOR")]
    annotator: String,
    /// Per prompt the best and the worst completion, {"prompt","chosen","rejected"} with scores; the default
    #[arg(long)]
    pairs: bool,
    /// Per completion its score, {"prompt","completion","score"}
    #[arg(long)]
    scores: bool,
    /// Name of the score in --scores rows
    // `requires` alone says nothing where `--pairs` rules `--scores` out.
    #[arg(long, value_name = "KEY", default_value = "score", requires = "scores", conflicts_with = "pairs")]
    #[arg(value_parser = score_key)]
    score_key: String,
    /// Ask an annotator that compares in both orders; contradictions tie
    #[arg(long, conflicts_with = "scores")]
    both_orders: bool,
    /// Where to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn score_key(key: &str) -> Result<String, String> {
    match key {
        "" => Err("a key has a name".to_owned()),
        "prompt" | "completion" => Err("this key has its own meaning".to_owned()),
        key => Ok(key.to_owned()),
    }
}

/// Reads, judges, writes.
pub fn run(args: &AnnotateArgs, globals: &Globals) -> Result<(), Failure> {
    let mut config = annotator::parse_flag(&args.annotator)?;
    config.both_orders |= args.both_orders;
    config.check()?;
    let rows = RowSource::open(&args.responses)?;
    let progress = globals.progress();
    // Read twice: what is wrong anywhere in the file is found before anything is asked, and nothing of it is held.
    match args.scores {
        true => {
            let total = scores::count(&rows)?;
            scores::run(&rows, total, &mut *annotator::build(&config, &globals.device()?)?, args, &progress)
        }
        false => {
            let plan = pairs::Plan::of(&rows)?;
            pairs::run(&rows, plan, &mut *annotator::build(&config, &globals.device()?)?, args, &progress)
        }
    }
}

impl AnnotateArgs {
    /// Opened only when the annotator is at hand: what is there is not lost to a misspelt name.
    fn sink(&self) -> Result<Sink, Failure> {
        Sink::open(self.output.as_deref())
    }
}

/// A completion in the form of its prompt: text beside text, a message beside messages.
fn beside(prompt: &Prompt, completion: &str) -> Value {
    match prompt {
        Prompt::Text(_) => json!(completion),
        Prompt::Messages(_) => json!([{"role": "assistant", "content": completion}]),
    }
}

/// How many were left out, by reason.
#[derive(Debug, Default)]
struct LeftOut(BTreeMap<&'static str, usize>);

impl LeftOut {
    fn count(&mut self, reason: &'static str) {
        *self.0.entry(reason).or_default() += 1;
    }

    fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// `; left out: 3 tie, 1 timed_out`, or nothing.
    fn told(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let counts: Vec<String> = self.0.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!("; left out: {}", counts.join(", "))
    }
}
