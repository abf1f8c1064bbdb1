use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
};

use bpo_data::{
    Counts, Limits, Message, OutcomeRow, PreferenceRow, Prompt, PromptRow, ReferenceRow, Rows, Tokenizer, fit_group,
    fit_prompt, held_out,
};
use bpo_sampler::PairSelection;
use bpo_store::RowFile;
use serde::{Deserialize, Serialize};

use crate::{Error, Observer, Recipe, Sample, rows_at_work::worked};

/// A prompt to sample from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainPrompt {
    /// Row of the prompts file.
    pub id: usize,
    /// What annotators read.
    pub text: String,
    /// What the model reads.
    pub ids: Vec<u32>,
    /// Completions that came with the prompt, without log-probs: of a pair the chosen, then the rejected one.
    pub given: Vec<Sample>,
}

/// What a run trains on.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainRows {
    /// Prompts to sample from.
    Prompts(Rows<PromptRow>),
    /// Preference pairs.
    Pairs(Rows<PreferenceRow>),
}

/// A row of either kind on its way to a [`TrainPrompt`].
struct Source {
    id: usize,
    line: usize,
    prompt: Prompt,
    reference: Option<String>,
    given: Vec<String>,
}

/// Rows of any kind that has prompts.
#[derive(Clone, Copy)]
pub(crate) enum AnyRows<'r> {
    Prompts(&'r Rows<PromptRow>),
    Pairs(&'r Rows<PreferenceRow>),
    Outcomes(&'r Rows<OutcomeRow>),
}

impl AnyRows<'_> {
    fn file(self) -> &'static str {
        match self {
            Self::Prompts(_) | Self::Outcomes(_) => "prompts",
            Self::Pairs(_) => "pairs",
        }
    }
}

fn of_prompt(row: PromptRow, needs_reference: bool) -> Result<Source, Error> {
    let PromptRow { id, line, prompt, reference } = row;
    let given = match (needs_reference, &reference) {
        (false, _) => Vec::new(),
        (true, Some(text)) => vec![text.clone()],
        (true, None) => {
            return Err(Error::Data(format!("prompts, line {line}: pair_selection ucb_ref needs a reference text")));
        }
    };
    Ok(Source { id, line, prompt, reference, given })
}

fn of_outcome(id: usize, row: OutcomeRow) -> Option<Source> {
    Some(Source { id, line: row.line, prompt: row.prompt?, reference: None, given: Vec::new() })
}

fn of_pair(id: usize, row: PreferenceRow) -> Source {
    let PreferenceRow { line, prompt, chosen, rejected, margin: _ } = row;
    Source { id, line, prompt, reference: Some(chosen.clone()), given: vec![chosen, rejected] }
}

/// A held-out prompt, with a text to win against where there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalPrompt {
    /// The prompt.
    pub prompt: TrainPrompt,
    /// A reference response.
    pub reference: Option<String>,
}

/// Both sides of a run's prompts.
#[derive(Debug)]
pub struct Prepared {
    /// To sample from, in the order of their ids.
    pub train: RowFile<TrainPrompt>,
    /// Held out.
    pub eval: Vec<EvalPrompt>,
    /// What was kept, cut and left out, in words.
    pub notes: Vec<String>,
}

/// Share of the prompts held out when there are no references: of [`bpo_data::held_out`], with the recipe's seed.
pub const HELD_OUT: f64 = 0.125;

/// A row as a run may need it.
struct Tokenised {
    /// What annotators read.
    text: String,
    /// Ids of the prompt and of each completion given with it; `None` of a row that is set aside anyhow.
    ids: Option<Result<Ids, bpo_data::Error>>,
}

/// Splits and tokenises: evaluation prompts are the references' prompts, or an eighth of the prompts
/// chosen by a hash of their text; no text is on both sides. What was left out is counted in the notes. The training
/// prompts go to `train`, which is empty; `rows` are read once, and none of them is held.
///
/// # Errors
/// [`Error::Data`] when nothing is left to train on, or a row lacks what the recipe needs of it; [`Error::Interrupted`].
pub fn prepare(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    context: usize,
    rows: TrainRows,
    references: Option<&Rows<ReferenceRow>>,
    train: RowFile<TrainPrompt>,
    observer: &mut dyn Observer,
) -> Result<Prepared, Error> {
    let rows = match &rows {
        TrainRows::Prompts(rows) => AnyRows::Prompts(rows),
        TrainRows::Pairs(rows) => AnyRows::Pairs(rows),
    };
    prepare_any(recipe, tokenizer, context, rows, references, train, observer)
}

/// [`prepare`], also of texts with outcomes: of those that have a prompt, their prompts. The id is the row's index.
pub(crate) fn prepare_any(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    context: usize,
    rows: AnyRows<'_>,
    references: Option<&Rows<ReferenceRow>>,
    train: RowFile<TrainPrompt>,
    observer: &mut dyn Observer,
) -> Result<Prepared, Error> {
    let file = rows.file();
    let limits = recipe.limits(context)?;
    if recipe.apply_chat_template && !tokenizer.has_chat_template() {
        return Err(Error::Recipe("apply_chat_template: the tokenizer has no chat template".into()));
    }
    let mut prepared = Prepared { train, eval: Vec::new(), notes: Vec::new() };
    if let Some(references) = references {
        let (size, chat) = (recipe.eval_size, recipe.apply_chat_template);
        let (eval, counts) = eval_prompts((references, "references"), tokenizer, &limits, size, chat)?;
        if eval.is_empty() && size > 0 {
            return Err(Error::Data(format!("no reference is left to evaluate on: {counts}")));
        }
        if counts.total_dropped() + counts.truncated > 0 {
            prepared.notes.push(format!("references: {counts}"));
        }
        prepared.eval = eval;
    }
    let mut evaluated: HashSet<String> = prepared.eval.iter().map(|eval| eval.prompt.text.clone()).collect();
    let (mut counts, mut set_aside) = (Counts::default(), 0);
    let holds_out = references.is_none() && recipe.eval_size > 0;
    let holds = |text: &str| holds_out && held_out(text, recipe.seed, HELD_OUT);
    let is_full = AtomicBool::new(false);
    let work = |row: &Source| {
        let asked = shown(&row.prompt, recipe.apply_chat_template);
        let text = asked.text();
        let is_needed = !(is_full.load(Ordering::Relaxed) && holds(&text));
        Tokenised { ids: is_needed.then(|| ids(tokenizer, &asked, &row.given)), text }
    };
    let keep = |row: Source, Tokenised { text, ids }: Tokenised| {
        let is_new = !evaluated.contains(&text);
        let hold = is_new && holds(&text);
        let Some(ids) = ids.filter(|_| is_new && !(hold && prepared.eval.len() >= recipe.eval_size)) else {
            set_aside += 1;
            return Ok(());
        };
        let fitted = ids.map_err(Error::from).and_then(|ids| fitted(tokenizer, ids, row.given, &limits, &mut counts));
        let Some((ids, given)) = fitted.map_err(|error| at_line(file, row.line, &error))? else { return Ok(()) };
        let prompt = TrainPrompt { id: row.id, text, ids, given };
        if !hold {
            return Ok(prepared.train.push(&prompt)?);
        }
        evaluated.insert(prompt.text.clone());
        prepared.eval.push(EvalPrompt { prompt, reference: row.reference });
        is_full.store(prepared.eval.len() >= recipe.eval_size, Ordering::Relaxed);
        Ok(())
    };
    let mut ids = 0..;
    let mut id = || ids.next().unwrap_or_default();
    match rows {
        AnyRows::Prompts(rows) => {
            let needs_reference = recipe.pair_selection == PairSelection::UcbRef;
            worked(rows, observer, |row| of_prompt(row, needs_reference).map(Some), work, keep)?;
        }
        AnyRows::Pairs(rows) => worked(rows, observer, |row| Ok(Some(of_pair(id(), row))), work, keep)?,
        AnyRows::Outcomes(rows) => worked(rows, observer, |row| Ok(of_outcome(id(), row)), work, keep)?,
    }
    if prepared.train.is_empty() {
        return Err(Error::Data(format!("no prompt is left to train on: {counts}, {set_aside} held out")));
    }
    let mut notes = notes(&prepared, &counts, set_aside, file);
    prepared.notes.append(&mut notes);
    Ok(prepared)
}

fn notes(prepared: &Prepared, counts: &Counts, set_aside: usize, file: &str) -> Vec<String> {
    let (train, eval) = (prepared.train.len(), prepared.eval.len());
    let mut notes = vec![format!("{train} training {file}, {eval} prompts held out for evaluation")];
    if counts.total_dropped() + counts.truncated > 0 {
        notes.push(format!("{file}: {counts}"));
    }
    if set_aside > 0 {
        notes.push(format!("{set_aside} more prompts set aside: held out, or the text of one that is evaluated on"));
    }
    notes
}

/// A plain prompt as the user's message of a chat, if asked for.
fn shown(prompt: &Prompt, apply_chat_template: bool) -> Prompt {
    match prompt {
        Prompt::Text(text) if apply_chat_template => {
            let text = text.trim();
            let text = text.strip_suffix("Assistant:").unwrap_or(text).trim_end();
            Prompt::Messages(vec![Message::new("user", text)])
        }
        other => other.clone(),
    }
}

/// The first `size` different prompts of `references`, those that fit, and what happened to the others; errors call the
/// rows by `name`.
///
/// # Errors
/// [`Error::Data`] when a reference has no prompt.
pub fn eval_prompts(
    (references, name): (&Rows<ReferenceRow>, &str),
    tokenizer: &Tokenizer,
    limits: &Limits,
    size: usize,
    apply_chat_template: bool,
) -> Result<(Vec<EvalPrompt>, Counts), Error> {
    let mut counts = Counts::default();
    let (mut eval, mut seen): (Vec<EvalPrompt>, HashSet<String>) = Default::default();
    references.each(|row| -> Result<(), Error> {
        let Some(prompt) = &row.prompt else {
            return Err(Error::Data(format!("{name}, line {}: a reference needs its prompt", row.line)));
        };
        if eval.len() >= size {
            return Ok(());
        }
        let prompt = shown(prompt, apply_chat_template);
        let text = prompt.text();
        if !seen.insert(text.clone()) {
            return Ok(());
        }
        let ids = ids(tokenizer, &prompt, &[]).map_err(Error::from);
        let fitted = ids.and_then(|ids| fitted(tokenizer, ids, Vec::new(), limits, &mut counts));
        if let Some((ids, given)) = fitted.map_err(|error| at_line(name, row.line, &error))? {
            let prompt = TrainPrompt { id: row.line, text, ids, given };
            eval.push(EvalPrompt { prompt, reference: Some(row.text) });
        }
        Ok(())
    })?;
    Ok((eval, counts))
}

fn at_line(file: &str, line: usize, error: &Error) -> Error {
    Error::Data(format!("{file}, line {line}: {error}"))
}

/// Ids of a prompt, and those of each completion given with it.
type Ids = (Vec<u32>, Vec<Vec<u32>>);

fn ids(tokenizer: &Tokenizer, prompt: &Prompt, given: &[String]) -> Result<Ids, bpo_data::Error> {
    let ids = tokenizer.encode_prompt(prompt)?;
    let completions: Result<_, _> = given.iter().map(|text| tokenizer.encode_completion(text, true)).collect();
    Ok((ids, completions?))
}

/// Ids of a prompt, and the completions given with it.
type Fitted = (Vec<u32>, Vec<Sample>);

/// A prompt and the completions given with it, if they fit.
fn fitted(
    tokenizer: &Tokenizer,
    (ids, completions): Ids,
    given: Vec<String>,
    limits: &Limits,
    counts: &mut Counts,
) -> Result<Option<Fitted>, Error> {
    let has_bos = tokenizer.bos_id().is_some_and(|bos| ids.first() == Some(&bos));
    if given.is_empty() {
        return Ok(counts.keep(fit_prompt(ids, limits, has_bos)?).map(|ids| (ids, Vec::new())));
    }
    let kept = counts.keep(fit_group(ids, completions, limits, has_bos)?);
    Ok(kept.map(|(ids, completions)| {
        let sample = |(tokens, text): (Vec<u32>, String)| Sample {
            eos: tokens.last().is_some_and(|last| tokenizer.eos_ids().contains(last)),
            tokens,
            logps: Vec::new(),
            text,
            origin: None,
        };
        (ids, completions.into_iter().zip(given).map(sample).collect())
    }))
}
