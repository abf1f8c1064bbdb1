//! `bpo eval`: how often one policy wins, against reference texts, another policy or saved responses.
mod args;
mod distribution;
mod print;
mod provenance;
mod recorded;
mod saved;
mod side;

use std::{collections::HashMap, path::Path};

use bpo_annotate::AnnotatorConfig;
use bpo_data::ReferenceRow;
use bpo_train::{EvalPrompt, Judged, judge, win_rate, wins_by_score};

pub use self::args::EvalArgs;
use self::{
    print::{Csv, Found, Totals},
    recorded::{Recorded, Records},
    saved::Saved,
    side::{Loader, Responses},
};
use crate::{
    annotator,
    args::Globals,
    embedded,
    failure::{Failure, Kind},
    out::Out,
    progress::Progress,
    source::ModelSource,
    train::{
        start::{Identity, Start},
        watch::Watch,
    },
};

/// Runs the verb.
pub fn run(args: &EvalArgs, globals: &Globals) -> Result<(), Failure> {
    args.sampling().validate()?;
    if args.outputs.is_some() && args.against_adapter.is_some() && args.against_model.is_none() {
        return Err(Failure::usage("--against-adapter: beside --outputs it needs the --against-model it belongs to"));
    }
    let (progress, config) = (globals.progress(), annotator::parse_flag(&args.annotator)?);
    config.check()?;
    let saved = |path: Option<&Path>| path.map(|path| read_saved(path, &progress)).transpose();
    let (saved_ours, saved_theirs) = (saved(args.outputs.as_deref())?, saved(args.against_outputs.as_deref())?);
    let rows = rows(args, saved_ours.as_ref())?;
    let device = globals.device()?;
    let mut annotator = annotator::build(&config, &device)?;
    let mut ours = args.ours(&rows, saved_ours.as_ref())?;
    let mut theirs = args.theirs(&rows, saved_theirs.as_ref(), &ours)?;
    if let Some(theirs) = &mut theirs {
        side::keep_common(&mut ours, theirs, &progress)?;
    }
    if ours.prompts.is_empty() {
        return Err(Failure::input("no prompt is left to evaluate on: none fits the context"));
    }
    let mut csv = args.csv.as_deref().map(Csv::create).transpose()?;
    let start = args.run_dir.as_deref().map(|folder| Start::open(folder, &args.settings(&config))).transpose()?;
    if let Some(start) = &start {
        start.settle(&identity(args, &config, globals)?)?;
    }
    let mut records = Records::new(start.as_ref().map(|start| start.dir.journal()).transpose()?);
    let mut watch = Watch::without_handler(progress.clone(), globals.device_name());
    let mut loader = Loader::new(args, &device);
    let our_responses = ours.responses(&mut loader, (&mut records, 0), &mut watch)?;
    let their_responses =
        theirs.as_ref().map(|side| side.responses(&mut loader, (&mut records, 1), &mut watch)).transpose()?;
    watch.finish();
    drop(loader);
    let mut recorded = Recorded { annotator: &mut *annotator, records: &mut records, progress: &progress };
    let found = judged(&ours.prompts, our_responses, their_responses, &mut recorded)?;
    annotator::tell(&*annotator, &progress);
    let trainer = args.adapter.as_deref().or(args.model_folder()).and_then(provenance::trained_by);
    let same_judge = trainer.is_some_and(|trainer| provenance::have_a_judge_in_common(&trainer, &config));
    let totals = Totals::of(&found, annotator.name(), same_judge, args.seed);
    if let Some(start) = &start {
        let value = serde_json::to_value(&totals).map_err(|error| Failure::new(Kind::Internal, error))?;
        start.dir.mark_finished(&value)?;
    }
    if let Some(csv) = &mut csv {
        csv.write(&found)?;
    }
    let mut out = Out::new();
    match args.json {
        true => print::json(&found, &totals, &mut out)?,
        false => print::text(&totals, &mut out)?,
    }
    if same_judge && args.json {
        progress.say(print::SAME_JUDGE);
    }
    out.flush()
}

fn read_saved(path: &Path, progress: &Progress) -> Result<Saved, Failure> {
    let saved = Saved::read(path)?;
    if saved.further > 0 {
        let (name, further) = (saved.name(), saved.further);
        progress.say(&format!("note: {name}: {further} further responses to prompts that have one are left out"));
    }
    Ok(saved)
}

impl EvalArgs {
    /// Where the policy's model lies, if it is one of a folder.
    fn model_folder(&self) -> Option<&Path> {
        match (&self.outputs, &self.model) {
            (None, ModelSource::Dir(folder)) => Some(folder),
            _ => None,
        }
    }
}

/// Asks the annotator all that is to be asked.
fn judged(
    prompts: &[EvalPrompt],
    ours: Responses,
    theirs: Option<Responses>,
    annotator: &mut Recorded<'_>,
) -> Result<Found, Failure> {
    let our_texts = ours.texts();
    let Judged { scores, reference_wins } = judge(prompts, &our_texts, annotator)?;
    let (mut their_scores, mut wins) = (None, None);
    if let Some(theirs) = &theirs {
        let without = |eval: &EvalPrompt| EvalPrompt { prompt: eval.prompt.clone(), reference: None };
        let bare: Vec<EvalPrompt> = prompts.iter().map(without).collect();
        their_scores = judge(&bare, &theirs.texts(), annotator)?.scores;
        wins = Some(match (&scores, &their_scores) {
            (Some(ours), Some(theirs)) => wins_by_score(ours, theirs),
            _ => {
                let asked: Vec<&str> = prompts.iter().map(|eval| eval.prompt.text.as_str()).collect();
                win_rate(annotator, &asked, &our_texts, &theirs.texts())?
            }
        });
    }
    if scores.is_none() && reference_wins.is_none() && wins.is_none() {
        return Err(Failure::usage(
            "the annotator only compares, and there is nothing to compare with: give --references, or one of the \
             --against flags",
        ));
    }
    Ok(Found { prompts: prompts.to_vec(), ours, theirs, scores, reference_wins, their_scores, wins })
}

/// The rows, and whether each has a reference text. Rows that are prompts only will do where two policies
/// are compared, and with saved responses, whose own prompts they are.
fn rows(args: &EvalArgs, saved: Option<&Saved>) -> Result<Vec<(ReferenceRow, bool)>, Failure> {
    let given = match (&args.prompts, args.references.as_deref(), saved) {
        (None, None, Some(saved)) => return Ok(saved.rows(|_| None)),
        (Some(path), _, _) => prompt_rows(path)?,
        (None, None | Some(embedded::NAME), _) => {
            let rows = bpo_data::read_references_from("(embedded references)", embedded::EVAL_PROMPTS)?;
            rows.into_iter().map(|row| (row, true)).collect()
        }
        (None, Some(path), _) => match bpo_data::read_references(Path::new(path)) {
            Ok(rows) => rows.into_iter().map(|row| (row, true)).collect(),
            // If they are no prompts either, the first complaint is the one that matters.
            Err(error) if args.compares() => prompt_rows(Path::new(path)).map_err(|_| Failure::from(error))?,
            Err(error) => return Err(error.into()),
        },
    };
    let Some(saved) = saved else { return Ok(given) };
    let texts: HashMap<String, String> = given
        .into_iter()
        .filter(|(_, has_text)| *has_text)
        .filter_map(|(row, _)| Some((row.prompt?.text(), row.text)))
        .collect();
    Ok(saved.rows(|prompt| texts.get(prompt).cloned()))
}

fn prompt_rows(path: &Path) -> Result<Vec<(ReferenceRow, bool)>, bpo_data::Error> {
    let row = |row: bpo_data::PromptRow| {
        let has_text = row.reference.is_some();
        let text = row.reference.unwrap_or_default();
        (ReferenceRow { line: row.line, prompt: Some(row.prompt), text }, has_text)
    };
    Ok(bpo_data::read_prompts(path)?.into_iter().map(row).collect())
}

/// What the evaluation reads.
fn identity(args: &EvalArgs, config: &AnnotatorConfig, globals: &Globals) -> Result<Identity, Failure> {
    let samples = args.outputs.is_none() || args.against_model.is_some();
    let mut identity = if samples { Identity::on(globals.device_name()) } else { Identity::default() };
    if args.outputs.is_none() {
        identity.model(&args.model)?;
        identity.tokenizer(&args.model, args.tokenizer.as_deref())?;
    }
    for (index, adapter) in [&args.adapter, &args.against_adapter].into_iter().enumerate() {
        if let Some(adapter) = adapter {
            identity.adapter(index, adapter)?;
        }
    }
    for (key, model) in [("against_model", &args.against_model), ("start_model", &args.start_model)] {
        if let Some(source @ ModelSource::Dir(folder)) = model {
            identity.file(&format!("{key} config.json"), &folder.join("config.json"))?;
            for path in source.checkpoint()?.files() {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                identity.file(&format!("{key} {name}"), path)?;
            }
        }
    }
    let files = [("outputs", &args.outputs), ("against_outputs", &args.against_outputs), ("prompts", &args.prompts)];
    for (what, path) in files {
        if let Some(path) = path {
            identity.file(what, path)?;
        }
    }
    match args.references.as_deref() {
        Some(path) => identity.data("references", path, embedded::EVAL_PROMPTS)?,
        None if args.outputs.is_none() && args.prompts.is_none() => {
            identity.data("references", embedded::NAME, embedded::EVAL_PROMPTS)?;
        }
        None => {}
    }
    identity.annotator(config)?;
    Ok(identity)
}
