//! What happens to rows that are too long. Always in token space, always counted.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;

/// What is done with a row over its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    /// Leave the row out.
    #[default]
    Drop,
    /// Cut the prompt from the left, keeping a leading BOS.
    LeftPrompt,
    /// Cut the completion from the right; a prompt that is too long by itself is left out.
    RightCompletion,
    /// Stop with [`Error::OverLimit`].
    Error,
}

/// How long rows may be, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The longest prompt.
    #[serde(default)]
    pub max_prompt_length: Option<usize>,
    /// The longest prompt and completion together.
    #[serde(default)]
    pub max_length: Option<usize>,
    /// What is done with rows that are longer.
    #[serde(default)]
    pub truncation: Truncation,
}

impl Limits {
    /// The longest prompt that leaves room for at least one more token.
    fn prompt(&self) -> usize {
        let with_room = self.max_length.map_or(usize::MAX, |length| length.saturating_sub(1));
        self.max_prompt_length.unwrap_or(usize::MAX).min(with_room)
    }

    fn total(&self) -> usize {
        self.max_length.unwrap_or(usize::MAX)
    }
}

/// A row after its limits were applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit<T> {
    /// The row fits as it is.
    Kept(T),
    /// The row fits after tokens were cut off; something of every part is left.
    Truncated(T),
    /// The row is left out.
    Dropped(DropReason),
}

impl<T> Fit<T> {
    /// The row, cut or not, unless it was dropped.
    pub fn into_kept(self) -> Option<T> {
        match self {
            Self::Kept(row) | Self::Truncated(row) => Some(row),
            Self::Dropped(_) => None,
        }
    }
}

/// Why a row is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DropReason {
    /// The prompt has no tokens.
    PromptEmpty,
    /// The prompt is over its limit and may not, or cannot, be cut.
    PromptTooLong,
    /// The completion has no tokens.
    CompletionEmpty,
    /// Prompt and completion together are over the limit and may not, or cannot, be cut.
    TooLong,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PromptEmpty => "prompt empty",
            Self::PromptTooLong => "prompt too long",
            Self::CompletionEmpty => "completion empty",
            Self::TooLong => "prompt and completion too long",
        })
    }
}

/// Fits a prompt; one that leaves no room for a single completion token is over the limit too.
///
/// With `keep_first_bos` a cut prompt keeps its first token. [`Truncation::RightCompletion`]
/// cannot shorten a prompt and drops it.
///
/// # Errors
/// [`Error::OverLimit`] under [`Truncation::Error`].
pub fn fit_prompt(ids: Vec<u32>, limits: &Limits, keep_first_bos: bool) -> Result<Fit<Vec<u32>>, Error> {
    let limit = limits.prompt();
    if ids.is_empty() {
        return Ok(Fit::Dropped(DropReason::PromptEmpty));
    }
    if ids.len() <= limit {
        return Ok(Fit::Kept(ids));
    }
    match limits.truncation {
        Truncation::Error => Err(over(DropReason::PromptTooLong, ids.len(), limit)),
        Truncation::LeftPrompt => {
            Ok(cut_left(ids, limit, keep_first_bos).map_or(Fit::Dropped(DropReason::PromptTooLong), Fit::Truncated))
        }
        Truncation::Drop | Truncation::RightCompletion => Ok(Fit::Dropped(DropReason::PromptTooLong)),
    }
}

/// Token ids of a prompt and of its completion.
type PromptAndCompletion = (Vec<u32>, Vec<u32>);
/// Token ids of a prompt and of its completions.
type PromptAndCompletions = (Vec<u32>, Vec<Vec<u32>>);

/// Fits a prompt with its completion: first the prompt alone, then both together.
///
/// # Errors
/// [`Error::OverLimit`] under [`Truncation::Error`].
pub fn fit_pair(
    prompt: Vec<u32>,
    completion: Vec<u32>,
    limits: &Limits,
    keep_first_bos: bool,
) -> Result<Fit<PromptAndCompletion>, Error> {
    let fit = fit_group(prompt, vec![completion], limits, keep_first_bos)?;
    let only = |(prompt, completions): PromptAndCompletions| (prompt, completions.concat());
    Ok(match fit {
        Fit::Kept(group) => Fit::Kept(only(group)),
        Fit::Truncated(group) => Fit::Truncated(only(group)),
        Fit::Dropped(reason) => Fit::Dropped(reason),
    })
}

/// Fits a prompt with several completions, as a preference pair needs it: whatever is cut off the
/// prompt, all completions still continue the same one. The longest completion decides.
///
/// # Errors
/// [`Error::OverLimit`] under [`Truncation::Error`].
pub fn fit_group(
    prompt: Vec<u32>,
    completions: Vec<Vec<u32>>,
    limits: &Limits,
    keep_first_bos: bool,
) -> Result<Fit<PromptAndCompletions>, Error> {
    let longest = completions.iter().map(Vec::len).max().unwrap_or(0);
    if longest == 0 || completions.iter().any(Vec::is_empty) {
        return Ok(Fit::Dropped(DropReason::CompletionEmpty));
    }
    let (prompt, is_cut) = match fit_prompt(prompt, limits, keep_first_bos)? {
        Fit::Kept(prompt) => (prompt, false),
        Fit::Truncated(prompt) => (prompt, true),
        Fit::Dropped(reason) => return Ok(Fit::Dropped(reason)),
    };
    let (length, limit) = (prompt.len() + longest, limits.total());
    if length <= limit {
        let group = (prompt, completions);
        return Ok(if is_cut { Fit::Truncated(group) } else { Fit::Kept(group) });
    }
    let cut = match limits.truncation {
        Truncation::Error => return Err(over(DropReason::TooLong, length, limit)),
        Truncation::Drop => None,
        Truncation::LeftPrompt => {
            let room = limit.saturating_sub(longest);
            cut_left(prompt, room, keep_first_bos).map(|prompt| (prompt, completions))
        }
        Truncation::RightCompletion => {
            let room = limit.saturating_sub(prompt.len());
            cut_right(completions, room).map(|completions| (prompt, completions))
        }
    };
    Ok(cut.map_or(Fit::Dropped(DropReason::TooLong), Fit::Truncated))
}

/// The last `limit` tokens, or the first and the last `limit - 1`; `None` if nothing but the
/// first would be left.
fn cut_left(mut ids: Vec<u32>, limit: usize, keep_first: bool) -> Option<Vec<u32>> {
    let head = usize::from(keep_first);
    if limit <= head {
        return None;
    }
    let surplus = ids.len().saturating_sub(limit);
    ids.drain(head..head + surplus);
    Some(ids)
}

/// The first `limit` tokens of each, `None` if there are none.
fn cut_right(mut completions: Vec<Vec<u32>>, limit: usize) -> Option<Vec<Vec<u32>>> {
    completions.iter_mut().for_each(|ids| ids.truncate(limit));
    Some(completions).filter(|_| limit > 0)
}

fn over(reason: DropReason, length: usize, limit: usize) -> Error {
    Error::OverLimit { reason, length, limit }
}

/// How many rows were cut, and how many were left out, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rows that were cut and kept.
    pub truncated: usize,
    /// Rows that were left out.
    pub dropped: BTreeMap<DropReason, usize>,
}

impl Counts {
    /// Counts what happened to a row and gives the row back, unless it was dropped.
    pub fn keep<T>(&mut self, fit: Fit<T>) -> Option<T> {
        match &fit {
            Fit::Kept(_) => {}
            Fit::Truncated(_) => self.truncated += 1,
            Fit::Dropped(reason) => self.record(*reason),
        }
        fit.into_kept()
    }

    /// Counts one dropped row.
    pub fn record(&mut self, reason: DropReason) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// How many rows were left out, whatever the reason.
    pub fn total_dropped(&self) -> usize {
        self.dropped.values().sum()
    }
}

impl fmt::Display for Counts {
    /// `2 truncated, 3 dropped (prompt too long: 1, …)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} truncated, {} dropped", self.truncated, self.total_dropped())?;
        if self.dropped.is_empty() {
            return Ok(());
        }
        let reasons: Vec<String> = self.dropped.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        write!(f, " ({})", reasons.join(", "))
    }
}

#[cfg(test)]
mod tests;
