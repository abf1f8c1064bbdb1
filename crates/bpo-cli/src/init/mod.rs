//! `bpo init`: a recipe for what is at hand, with the reason for every setting.
mod ask;
mod choose;
mod look;
mod write;

use std::path::{Path, PathBuf};

use bpo_train::Tuning;
use clap::{ArgGroup, Args, ValueEnum};

use crate::{
    args::Globals,
    failure::{Failure, Kind},
    out::Out,
};

/// Write a recipe for a model and data, with the reason for every setting
///
/// Looks at the model (size, context, chat template) and at the data (lengths, number of rows), and asks on a terminal for
/// what no flag says. `bpo check` tells what the recipe would do, `bpo train` does it.
#[derive(Debug, Args)]
#[command(after_help = "\
Procedures:
  --procedure bpo          the reference is the behaviour policy, refreshed a few times (prompts)
  --procedure online-dpo   the reference is the model as it starts, responses are always fresh (prompts)
  --procedure offline-dpo  all responses come from the model as it starts (prompts)
  --procedure dpo          the pairs of a file (pairs)
  --procedure reward       a reward model, which judges in other runs (pairs; `bpo reward train`)
  --procedure sft          texts are imitated: what a preference run starts from (data; `bpo sft`)
  --procedure causal       texts with outcomes, numbers that say how good each turned out to be (outcomes)

Examples:
  bpo init
  bpo init --model ./SmolLM2-135M-Instruct --prompts prompts.jsonl --annotator vader_lexicon.txt --yes
  bpo init --model ./SmolLM2-135M-Instruct --pairs pairs.jsonl --procedure dpo --out dpo.toml
  bpo init --model ./SmolLM2-135M-Instruct --data texts.jsonl --tuning full --out sft.toml --yes
  bpo init --model ./all-MiniLM-L6-v2 --pairs pairs.jsonl --procedure reward --tuning full --out reward.toml --yes
  bpo init --model embedded --outcomes embedded --yes
  bpo init --model embedded --prompts embedded --annotator '{ kind = \"length\", prefer = \"shorter\" }' --yes",
  group(ArgGroup::new("rows").args(["prompts", "pairs", "data", "outcomes"])))]
pub struct InitArgs {
    /// Model directory, or `embedded`
    #[arg(long, value_name = "DIR")]
    model: Option<String>,
    /// Prompts to sample from, or `embedded`
    #[arg(long, value_name = "FILE")]
    prompts: Option<String>,
    /// Preference pairs to train on instead, or `embedded`
    #[arg(long, value_name = "FILE")]
    pairs: Option<String>,
    /// Texts to imitate: prompts with completions, conversations or plain texts
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
    /// Texts with outcomes, or `embedded`
    #[arg(long, value_name = "FILE")]
    outcomes: Option<String>,
    /// Held-out prompts with reference texts; without them an eighth of the prompts is held out
    #[arg(long, value_name = "FILE")]
    references: Option<String>,
    /// Who prefers, as in a recipe: `lexicon`, a VADER file, a reward model's folder, a server's address, a TOML table
    #[arg(long, value_name = "ANNOTATOR")]
    annotator: Option<String>,
    /// What to do [default: bpo with prompts, dpo with pairs, sft with data, causal with outcomes]
    #[arg(long, value_name = "PROCEDURE")]
    procedure: Option<Procedure>,
    /// What is trained: `lora` branches, `full` (all weights), or of a reward model its `head` alone [default: lora]
    #[arg(long, value_name = "WHAT", value_parser = ask::tuning_of)]
    tuning: Option<Tuning>,
    /// Where to write
    #[arg(long, value_name = "FILE", default_value = "bpo.toml")]
    out: PathBuf,
    /// Ask nothing: what no flag says is the default
    #[arg(short, long)]
    yes: bool,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

/// What a recipe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Procedure {
    /// The reference is the behaviour policy.
    Bpo,
    /// The reference is the start, the behaviour the policy.
    OnlineDpo,
    /// Both are the start.
    OfflineDpo,
    /// The pairs of a file.
    Dpo,
    /// A reward model on the pairs of a file.
    Reward,
    /// Texts are imitated.
    Sft,
    /// Texts with outcomes.
    Causal,
}

impl Procedure {
    /// The verb that runs its recipes.
    fn verb(self) -> &'static str {
        match self {
            Self::Reward => "reward train",
            Self::Sft => "sft",
            _ => "train",
        }
    }

    /// The key of what it is trained on.
    fn key(self) -> &'static str {
        match self {
            Self::Bpo | Self::OnlineDpo | Self::OfflineDpo => "prompts",
            Self::Dpo | Self::Reward => "pairs",
            Self::Sft => "data",
            Self::Causal => "outcomes",
        }
    }

    /// Whether somebody is asked who prefers, and there may be references.
    fn is_judged(self) -> bool {
        !matches!(self, Self::Reward | Self::Sft)
    }
}

/// What the user has.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    model: String,
    rows: Rows,
    references: Option<String>,
    annotator: String,
    procedure: Procedure,
    tuning: Tuning,
}

/// What is trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// Prompts to sample from.
    Prompts(String),
    /// Preference pairs.
    Pairs(String),
    /// Texts to imitate.
    Data(String),
    /// Texts with outcomes.
    Outcomes(String),
}

impl Rows {
    /// Their key in a recipe.
    fn key(&self) -> &'static str {
        match self {
            Self::Prompts(_) => "prompts",
            Self::Pairs(_) => "pairs",
            Self::Data(_) => "data",
            Self::Outcomes(_) => "outcomes",
        }
    }

    /// Their file.
    fn file(&self) -> &str {
        let (Self::Prompts(file) | Self::Pairs(file) | Self::Data(file) | Self::Outcomes(file)) = self;
        file
    }
}

/// Looks, chooses, writes.
pub fn run(args: &InitArgs, globals: &Globals) -> Result<(), Failure> {
    if args.out.exists() && !args.force {
        let path = args.out.display();
        return Err(Failure::usage(format!("--out {path}: there is such a file; give another name, or --force")));
    }
    let answers = answers(args)?;
    let chosen = choose::settings(&answers, globals)?;
    let text = write::recipe(&answers, &chosen, &args.out)?;
    write::proven(&text, answers.procedure)?;
    let failed = |error: std::io::Error| Failure::message(Kind::Run, format!("{}: {error}", args.out.display()));
    std::fs::File::create(&args.out)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(failed)?;
    let mut out = Out::new();
    out.line(&format!("{}: written. What it would do, and for how long:", args.out.display()))?;
    out.line(&format!("  bpo check {}", shell(&args.out)))?;
    out.line("and to do it:")?;
    out.line(&format!("  bpo {} {}", answers.procedure.verb(), shell(&args.out)))?;
    out.flush()
}

/// A path as a shell reads it.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains([' ', '\'', '"', '$']) { format!("'{}'", text.replace('\'', r"'\''")) } else { text }
}

/// Flags, then questions, then defaults.
fn answers(args: &InitArgs) -> Result<Answers, Failure> {
    let asks = !args.yes && console::user_attended() && console::user_attended_stderr();
    if asks {
        ask::show_cursor_when_interrupted();
    }
    let missing = |flags: &str| {
        Failure::usage(format!("bpo init asks on a terminal only; give {flags} (`embedded` is what is built in)"))
    };
    let model = match (&args.model, asks) {
        (Some(model), _) => model.clone(),
        (None, true) => ask::model()?,
        (None, false) => return Err(missing("--model DIR")),
    };
    let given = [
        args.prompts.clone().map(Rows::Prompts),
        args.pairs.clone().map(Rows::Pairs),
        args.data.clone().map(Rows::Data),
        args.outcomes.clone().map(Rows::Outcomes),
    ];
    let rows = match (given.into_iter().flatten().next(), asks) {
        (Some(rows), _) => rows,
        (None, true) => ask::rows(&model)?,
        (None, false) => return Err(missing("--prompts FILE, --pairs FILE, --data FILE or --outcomes FILE")),
    };
    let procedure = match (args.procedure, asks) {
        (Some(procedure), _) => procedure,
        (None, true) => ask::procedure(&rows)?,
        (None, false) => match rows {
            Rows::Prompts(_) => Procedure::Bpo,
            Rows::Pairs(_) => Procedure::Dpo,
            Rows::Data(_) => Procedure::Sft,
            Rows::Outcomes(_) => Procedure::Causal,
        },
    };
    if rows.key() != procedure.key() {
        let (needs, has) = (procedure.key(), rows.key());
        return Err(Failure::usage(format!("--procedure: this one needs --{needs}, and there are {has}")));
    }
    for (flag, is_given) in [("--references", args.references.is_some()), ("--annotator", args.annotator.is_some())] {
        if is_given && !procedure.is_judged() {
            return Err(Failure::usage(format!("{flag} has no effect: nobody judges in `bpo {}`", procedure.verb())));
        }
    }
    let tuning = match (args.tuning, asks) {
        (Some(tuning), _) => tuning,
        (None, true) => ask::tuning(procedure)?,
        (None, false) => Tuning::Lora,
    };
    if tuning == Tuning::Head && procedure != Procedure::Reward {
        return Err(Failure::usage("--tuning head is for reward models: give lora or full"));
    }
    let asks = asks && procedure.is_judged();
    let references = match (&args.references, asks) {
        (Some(file), _) => Some(file.clone()),
        (None, true) => ask::references()?,
        (None, false) => None,
    };
    let annotator = match (&args.annotator, asks) {
        (Some(annotator), _) => annotator.clone(),
        (None, true) => ask::annotator()?,
        (None, false) => "lexicon".to_owned(),
    };
    Ok(Answers { model, rows, references, annotator, procedure, tuning })
}
