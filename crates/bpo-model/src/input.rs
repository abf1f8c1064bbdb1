use std::{ops::Range, sync::Arc};

use bpo_kernels::Visibility;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{
    DecoderConfig, Error,
    mask::Mask,
    rope::{Frequencies, Places},
};

/// A batch of token rows with its positions and visibility, ready for [`Decoder::hidden`](crate::Decoder::hidden).
///
/// Visibility is any relation that lets every position see itself: causal rows, right padding, several
/// completions behind one shared prompt, several prompts packed into one row.
#[derive(Debug, Clone)]
pub struct Input {
    pub(crate) rows: usize,
    pub(crate) time: usize,
    pub(crate) ids: Tensor<2, Int>,
    pub(crate) places: Places,
    masks: Vec<(Option<usize>, Arc<Mask>)>,
}

impl Input {
    /// Refuses ids and positions that [`Input::new`] could not take.
    ///
    /// # Errors
    /// [`Error::Input`] when the sizes disagree, the batch is empty, an id is not in the vocabulary or a position is
    /// beyond those that the model can compute ([`DecoderConfig::longest`]).
    pub(crate) fn check(
        config: &DecoderConfig,
        [rows, time]: [usize; 2],
        ids: &[u32],
        positions: &[u32],
    ) -> Result<(), Error> {
        if rows * time == 0 || ids.len() != rows * time || positions.len() != rows * time {
            let (ids, positions) = (ids.len(), positions.len());
            return Err(Error::Input(format!("{rows} rows × {time} tokens, but {ids} ids and {positions} positions")));
        }
        let limit = config.longest().unwrap_or(usize::MAX);
        if let Some(position) = positions.iter().find(|&&position| position as usize >= limit) {
            return Err(Error::Input(format!("position {position} is beyond the model's {limit}, counted from 0")));
        }
        match ids.iter().find(|&&id| id as usize >= config.vocab_size) {
            Some(id) => {
                let vocab = config.vocab_size;
                Err(Error::Input(format!("token id {id} is outside the model's vocabulary of {vocab}")))
            }
            None => Ok(()),
        }
    }

    /// `ids`, `positions`: `[rows, time]` row-major; `may_attend(row, query, key)` by index in the row,
    /// asked for `key <= query` only; sliding windows are applied on top, by position.
    pub(crate) fn new(
        config: &DecoderConfig,
        frequencies: &Frequencies,
        [rows, time]: [usize; 2],
        ids: &[u32],
        positions: &[u32],
        may_attend: impl Fn(usize, usize, usize) -> bool,
        device: &Device,
    ) -> Self {
        let mut windows = config.windows.clone();
        windows.sort_unstable();
        windows.dedup();
        let mask = |window: Option<usize>| {
            let position = |index: usize| positions[index] as usize;
            Arc::new(Mask::new(Visibility::new(rows, time, |query| {
                let start = query / time * time;
                let near = |key: usize| window.is_none_or(|window| position(key) + window > position(query));
                let may = |key: usize| may_attend(query / time, query - start, key - start);
                runs(start..query + 1, |key| key == query || (near(key) && may(key)))
            })))
        };
        let longest = positions.iter().max().map_or(0, |&p| p as usize + 1);
        let mut masks: Vec<(Option<usize>, Arc<Mask>)> = Vec::new();
        for window in windows {
            // A window that nothing reaches past is no window.
            let effective = window.filter(|&window| window < longest);
            let known = masks.iter().find(|(w, _)| w.filter(|&w| w < longest) == effective);
            let seen = known.map_or_else(|| mask(effective), |(_, seen)| Arc::clone(seen));
            masks.push((window, seen));
        }
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        Self {
            rows,
            time,
            ids: Tensor::from_data(TensorData::new(ids, [rows, time]), device),
            places: frequencies.places(positions, device),
            masks,
        }
    }

    /// What layers with this window see.
    pub(crate) fn mask(&self, window: Option<usize>) -> &Mask {
        let known = self.masks.iter().find(|(w, _)| *w == window);
        #[expect(clippy::expect_used, reason = "an input of another model: its mask would silently be another's")]
        &known.expect("an input made by a model with other windows").1
    }
}

/// The stretches of `places` where `holds`.
fn runs(places: Range<usize>, holds: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for place in places.filter(|&place| holds(place)) {
        match runs.last_mut() {
            Some(run) if run.end == place => run.end += 1,
            _ => runs.push(place..place + 1),
        }
    }
    runs
}
