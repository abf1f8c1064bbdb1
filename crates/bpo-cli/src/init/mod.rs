//! `bpo init`: a recipe for what is at hand, with the reason for every setting.
mod ask;
mod choose;
mod look;
mod write;

use std::path::{Path, PathBuf};

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

Examples:
  bpo init
  bpo init --model ./SmolLM2-135M-Instruct --prompts prompts.jsonl --annotator vader_lexicon.txt --yes
  bpo init --model ./SmolLM2-135M-Instruct --pairs pairs.jsonl --procedure dpo --out dpo.toml
  bpo init --model embedded --prompts embedded --annotator '{ kind = \"length\", prefer = \"shorter\" }' --yes",
  group(ArgGroup::new("rows").args(["prompts", "pairs"])))]
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
    /// Held-out prompts with reference texts; without them an eighth of the prompts is held out
    #[arg(long, value_name = "FILE")]
    references: Option<String>,
    /// Who prefers, as in a recipe: `lexicon`, a VADER file, a reward model's folder, a server's address, a TOML table
    #[arg(long, value_name = "ANNOTATOR")]
    annotator: Option<String>,
    /// What to do [default: bpo with prompts, dpo with pairs]
    #[arg(long, value_name = "PROCEDURE")]
    procedure: Option<Procedure>,
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
}

/// What the user has.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    model: String,
    rows: Rows,
    references: Option<String>,
    annotator: String,
    procedure: Procedure,
}

/// What is trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// Prompts to sample from.
    Prompts(String),
    /// Preference pairs.
    Pairs(String),
}

/// Looks, chooses, writes.
pub fn run(args: &InitArgs, globals: &Globals) -> Result<(), Failure> {
    if args.out.exists() && !args.force {
        let path = args.out.display();
        return Err(Failure::usage(format!("--out {path}: there is such a file; give another name, or --force")));
    }
    let answers = answers(args)?;
    let found = look::at(&answers, globals)?;
    let chosen = choose::settings(&answers, &found)?;
    let text = write::recipe(&answers, &chosen, &args.out)?;
    write::proven(&text)?;
    let failed = |error: std::io::Error| Failure::message(Kind::Run, format!("{}: {error}", args.out.display()));
    std::fs::File::create(&args.out)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(failed)?;
    let mut out = Out::new();
    out.line(&format!("{}: written. What it would do, and for how long:", args.out.display()))?;
    out.line(&format!("  bpo check {}", shell(&args.out)))?;
    out.line("and to do it:")?;
    out.line(&format!("  bpo train {}", shell(&args.out)))?;
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
    let missing = |flags: &str| {
        Failure::usage(format!("bpo init asks on a terminal only; give {flags} (`embedded` is what is built in)"))
    };
    let model = match (&args.model, asks) {
        (Some(model), _) => model.clone(),
        (None, true) => ask::model()?,
        (None, false) => return Err(missing("--model DIR")),
    };
    let rows = match (&args.prompts, &args.pairs, asks) {
        (Some(prompts), ..) => Rows::Prompts(prompts.clone()),
        (_, Some(pairs), _) => Rows::Pairs(pairs.clone()),
        (None, None, true) => ask::rows(&model)?,
        (None, None, false) => return Err(missing("--prompts FILE or --pairs FILE")),
    };
    let has_prompts = matches!(rows, Rows::Prompts(_));
    let procedure = match (args.procedure, has_prompts, asks) {
        (Some(procedure), ..) => procedure,
        (None, true, true) => ask::procedure()?,
        (None, true, false) => Procedure::Bpo,
        (None, false, _) => Procedure::Dpo,
    };
    if has_prompts == (procedure == Procedure::Dpo) {
        let (needs, has) = if has_prompts { ("pairs", "prompts") } else { ("prompts", "pairs") };
        return Err(Failure::usage(format!("--procedure: this one needs --{needs}, and there are {has}")));
    }
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
    Ok(Answers { model, rows, references, annotator, procedure })
}
