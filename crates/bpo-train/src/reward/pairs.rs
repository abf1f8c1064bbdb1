//! Preference pairs as a reward model reads them.
use std::collections::HashSet;

use bpo_data::{Message, PairIds, PreferenceRow, Prompt, Rows, Tokenizer, held_out};
use bpo_model::SequenceClassifier;
use bpo_store::{RowFile, RunDir};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Error, Observer, RewardRecipe,
    rows_at_work::{rows_in, worked},
};

/// A pair as token ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub line: usize,
    pub chosen: PairIds,
    pub rejected: PairIds,
    pub margin: f64,
}

/// Pairs on disk, and how long each of their sides is.
#[derive(Debug)]
pub(crate) struct Pairs {
    rows: RowFile<Pair>,
    /// Tokens of the chosen and of the rejected side, `[pairs]`.
    lengths: Vec<[u32; 2]>,
}

impl Pairs {
    fn new(dir: Option<&RunDir>) -> Self {
        Self { rows: rows_in(dir), lengths: Vec::new() }
    }

    fn push(&mut self, pair: &Pair) -> Result<(), Error> {
        self.rows.push(pair)?;
        self.lengths.push([pair.chosen.ids.len() as u32, pair.rejected.ids.len() as u32]);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Tokens of a pair's longer side.
    pub fn longer(&self, pair: usize) -> usize {
        self.length(pair, 0).max(self.length(pair, 1))
    }

    /// Tokens of a side, `0` being the chosen one.
    pub fn length(&self, pair: usize, side: usize) -> usize {
        self.lengths[pair][side] as usize
    }

    /// These pairs.
    pub fn some(&self, indices: &[usize]) -> Result<Vec<Pair>, Error> {
        Ok(self.rows.some(indices.iter().copied())?)
    }

    /// The first ones, apart.
    pub fn first(&self, count: usize) -> Result<Self, Error> {
        let mut first = Self::new(None);
        for pair in self.rows.iter().take(count) {
            first.push(&pair?)?;
        }
        Ok(first)
    }

    /// A side of each.
    pub fn sides(&self, places: &[(usize, usize)]) -> Result<Vec<PairIds>, Error> {
        let side = |&(pair, side): &(usize, usize)| {
            let pair = self.rows.get(pair)?;
            Ok(if side == 0 { pair.chosen } else { pair.rejected })
        };
        places.iter().map(side).collect()
    }
}

impl Pair {
    /// Tokens of the longer side.
    pub fn length(&self) -> usize {
        self.chosen.ids.len().max(self.rejected.ids.len())
    }

    /// For a batch that is written down.
    pub fn json(&self) -> Value {
        json!({"line": self.line, "chosen": self.chosen.ids, "rejected": self.rejected.ids, "margin": self.margin})
    }
}

/// How a model reads texts, known without its weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader {
    /// Prompt and response as a pair, as encoders do.
    pub pairs: bool,
    /// Tokens, at most.
    pub longest: usize,
}

impl Reader {
    pub fn of(model: &SequenceClassifier) -> Self {
        Self { pairs: model.reads_pairs(), longest: model.longest().unwrap_or(model.context()) }
    }
}

/// Pairs to train on, pairs held out, and what is to be said about them.
pub(crate) struct Split {
    pub train: Pairs,
    pub held_out: Pairs,
    pub notes: Vec<String>,
}

/// What a reward model reads, `longest` tokens at most. An encoder: prompt and response as a pair. A decoder: the prompt as
/// a user's turn where there is a chat template, else as it is, then the response (ended with EOS after a template, as
/// a conversation is). What is too long loses the beginning of its prompt, and then the end of its response.
///
/// # Errors
/// Those of the tokenizer.
pub fn reward_ids(
    model: &SequenceClassifier,
    tokenizer: &Tokenizer,
    prompt: &str,
    response: &str,
    longest: Option<usize>,
) -> Result<PairIds, Error> {
    Ok(side_ids(model.reads_pairs(), tokenizer, prompt, response, longest)?)
}

/// [`reward_ids`], knowing of the model only how it reads.
fn side_ids(
    reads_pairs: bool,
    tokenizer: &Tokenizer,
    prompt: &str,
    response: &str,
    longest: Option<usize>,
) -> Result<PairIds, bpo_data::Error> {
    if reads_pairs {
        return tokenizer.encode_pair(prompt, response, longest);
    }
    let chat = tokenizer.has_chat_template();
    let prompt = if chat { Prompt::Messages(vec![Message::new("user", prompt)]) } else { Prompt::Text(prompt.into()) };
    let mut ids = tokenizer.encode_prompt(&prompt)?;
    let mut response = tokenizer.encode_completion(response, chat)?;
    if let Some(longest) = longest {
        let kept = usize::from(tokenizer.bos_id().is_some_and(|bos| ids.first() == Some(&bos)));
        response.truncate(longest.saturating_sub(kept));
        let surplus = (ids.len() + response.len()).saturating_sub(longest);
        ids.drain(kept..kept + surplus);
    }
    ids.extend(response);
    Ok(PairIds { ids, types: Vec::new() })
}

/// Splits by prompt, so that no prompt is on both sides, and encodes; pairs lie in `dir`, or in the system's folder for
/// temporary files.
pub(crate) fn split(
    recipe: &RewardRecipe,
    reader: Reader,
    tokenizer: &Tokenizer,
    (rows, eval_rows): (&Rows<PreferenceRow>, Option<&Rows<PreferenceRow>>),
    dir: Option<&RunDir>,
    observer: &mut dyn Observer,
) -> Result<Split, Error> {
    let longest = recipe.max_length.min(reader.longest);
    let (mut train, mut held) = (Pairs::new(dir), Pairs::new(dir));
    let mut counts = Counts::default();
    let work = |row: &PreferenceRow| sides(reader.pairs, tokenizer, row, longest);
    let mut known: HashSet<blake3::Hash> = HashSet::new();
    let is_known = |known: &HashSet<blake3::Hash>, row: &PreferenceRow| {
        !known.is_empty() && known.contains(&blake3::hash(row.prompt.text().as_bytes()))
    };
    if let Some(rows) = eval_rows {
        worked(
            rows,
            observer,
            |row| Ok(Some(row)),
            work,
            |row, sides| {
                known.insert(blake3::hash(row.prompt.text().as_bytes()));
                counts.keep(&row, sides?, longest).map_or(Ok(()), |pair| held.push(&pair))
            },
        )?;
    }
    worked(
        rows,
        observer,
        |row| Ok(Some(row)),
        work,
        |row, sides| {
            if is_known(&known, &row) {
                return Ok(());
            }
            let holds = eval_rows.is_none() && held_out(&row.prompt.text(), recipe.seed, recipe.eval_share);
            let side = if holds { &mut held } else { &mut train };
            counts.keep(&row, sides?, longest).map_or(Ok(()), |pair| side.push(&pair))
        },
    )?;
    if train.is_empty() {
        let (read, held) = (rows.len(), held.len());
        return Err(Error::Data(format!(
            "no pair is left to train on, of {read} that differ: {held} held out, {}",
            counts.told()
        )));
    }
    if eval_rows.is_some() && held.is_empty() {
        return Err(Error::Data(format!("eval_pairs: no pair is left to evaluate on: {}", counts.told())));
    }
    let mut notes = vec![format!("{} training pairs, {} held out", train.len(), held.len())];
    if counts.cut + counts.alike > 0 {
        notes.push(format!("pairs: {}", counts.told()));
    }
    Ok(Split { train, held_out: held, notes })
}

/// What happened to pairs.
#[derive(Default)]
struct Counts {
    cut: usize,
    alike: usize,
}

impl Counts {
    /// The pair, if its sides differ.
    fn keep(&mut self, row: &PreferenceRow, [chosen, rejected]: [PairIds; 2], longest: usize) -> Option<Pair> {
        if chosen == rejected || chosen.ids.is_empty() || rejected.ids.is_empty() {
            self.alike += 1;
            return None;
        }
        let pair = Pair { line: row.line, chosen, rejected, margin: row.margin.unwrap_or(0.0) };
        self.cut += usize::from(pair.length() >= longest);
        Some(pair)
    }

    fn told(&self) -> String {
        format!("{} have max_length tokens, longer ones cut; {} left out that read the same", self.cut, self.alike)
    }
}

/// Both sides of a pair.
fn sides(
    reads_pairs: bool,
    tokenizer: &Tokenizer,
    row: &PreferenceRow,
    longest: usize,
) -> Result<[PairIds; 2], bpo_data::Error> {
    let prompt = row.prompt.text();
    let side = |response: &str| side_ids(reads_pairs, tokenizer, &prompt, response, Some(longest));
    Ok([side(&row.chosen)?, side(&row.rejected)?])
}
