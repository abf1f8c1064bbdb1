//! Preference pairs as a reward model reads them.
use std::collections::HashSet;

use bpo_data::{Message, PairIds, PreferenceRow, Prompt, Tokenizer, held_out};
use bpo_model::SequenceClassifier;
use serde_json::{Value, json};

use crate::{Error, RewardRecipe};

/// A pair as token ids.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pair {
    pub line: usize,
    pub chosen: PairIds,
    pub rejected: PairIds,
    pub margin: f32,
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
    pub train: Vec<Pair>,
    pub held_out: Vec<Pair>,
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
    ids(model.reads_pairs(), tokenizer, prompt, response, longest)
}

fn ids(
    reads_pairs: bool,
    tokenizer: &Tokenizer,
    prompt: &str,
    response: &str,
    longest: Option<usize>,
) -> Result<PairIds, Error> {
    if reads_pairs {
        return Ok(tokenizer.encode_pair(prompt, response, longest)?);
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

/// Splits by prompt, so that no prompt is on both sides, and encodes.
pub(crate) fn split(
    recipe: &RewardRecipe,
    reader: Reader,
    tokenizer: &Tokenizer,
    rows: Vec<PreferenceRow>,
    eval_rows: Option<Vec<PreferenceRow>>,
) -> Result<Split, Error> {
    let reader = Reader { longest: recipe.max_length.min(reader.longest), ..reader };
    let given = eval_rows.is_some();
    let (held, kept): (Vec<PreferenceRow>, Vec<PreferenceRow>) = match eval_rows {
        Some(eval) => {
            let known: HashSet<String> = eval.iter().map(|row| row.prompt.text()).collect();
            (eval, rows.into_iter().filter(|row| !known.contains(&row.prompt.text())).collect())
        }
        None => rows.into_iter().partition(|row| held_out(&row.prompt.text(), recipe.seed, recipe.eval_share)),
    };
    let mut counts = Counts::default();
    let mut encode = |rows: Vec<PreferenceRow>| -> Result<Vec<Pair>, Error> {
        let pairs = rows.into_iter().map(|row| encoded(reader, tokenizer, row, &mut counts));
        Ok(pairs.collect::<Result<Vec<_>, Error>>()?.into_iter().flatten().collect())
    };
    let (train, held_out) = (encode(kept)?, encode(held)?);
    if train.is_empty() {
        return Err(Error::Data(format!(
            "no pair is left to train on: {} held out, {}",
            held_out.len(),
            counts.told()
        )));
    }
    if given && held_out.is_empty() {
        return Err(Error::Data(format!("eval_pairs: no pair is left to evaluate on: {}", counts.told())));
    }
    let mut notes = vec![format!("{} training pairs, {} held out", train.len(), held_out.len())];
    if counts.cut + counts.alike > 0 {
        notes.push(format!("pairs: {}", counts.told()));
    }
    Ok(Split { train, held_out, notes })
}

/// What happened to pairs.
#[derive(Default)]
struct Counts {
    cut: usize,
    alike: usize,
}

impl Counts {
    fn told(&self) -> String {
        format!("{} have max_length tokens, longer ones cut; {} left out that read the same", self.cut, self.alike)
    }
}

fn encoded(
    reader: Reader,
    tokenizer: &Tokenizer,
    row: PreferenceRow,
    counts: &mut Counts,
) -> Result<Option<Pair>, Error> {
    let prompt = row.prompt.text();
    let side = |response: &str| ids(reader.pairs, tokenizer, &prompt, response, Some(reader.longest));
    let (chosen, rejected) = (side(&row.chosen)?, side(&row.rejected)?);
    if chosen == rejected || chosen.ids.is_empty() || rejected.ids.is_empty() {
        counts.alike += 1;
        return Ok(None);
    }
    let pair = Pair { line: row.line, chosen, rejected, margin: row.margin.unwrap_or(0.0) as f32 };
    counts.cut += usize::from(pair.length() >= reader.longest);
    Ok(Some(pair))
}
