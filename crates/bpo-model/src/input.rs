use std::{ops::Range, sync::Arc};

use bpo_kernels::Visibility;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{DecoderConfig, Error, rope::Rotation};

/// A batch of token rows with its positions and visibility, ready for [`Decoder::hidden`](crate::Decoder::hidden).
///
/// Visibility is any relation that lets every position see itself: causal rows, right padding, several
/// completions behind one shared prompt, several prompts packed into one row.
#[derive(Debug, Clone)]
pub struct Input {
    pub(crate) rows: usize,
    pub(crate) time: usize,
    pub(crate) ids: Tensor<2, Int>,
    pub(crate) rotation: Rotation,
    visibilities: Vec<(Option<usize>, Arc<Visibility>)>,
}

impl Input {
    /// Refuses ids and positions that [`Input::new`] could not take.
    ///
    /// # Errors
    /// [`Error::Input`] when the sizes disagree, the batch is empty or an id is not in the vocabulary.
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
        frequencies: &[f32],
        [rows, time]: [usize; 2],
        ids: &[u32],
        positions: &[u32],
        may_attend: impl Fn(usize, usize, usize) -> bool,
        device: &Device,
    ) -> Self {
        let mut windows = config.windows.clone();
        windows.sort_unstable();
        windows.dedup();
        let visibility = |window: Option<usize>| {
            let position = |index: usize| positions[index] as usize;
            Arc::new(Visibility::new(rows, time, |query| {
                let start = query / time * time;
                let near = |key: usize| window.is_none_or(|window| position(key) + window > position(query));
                let may = |key: usize| may_attend(query / time, query - start, key - start);
                runs(start..query + 1, |key| key == query || (near(key) && may(key)))
            }))
        };
        let longest = positions.iter().max().map_or(0, |&p| p as usize + 1);
        let mut visibilities: Vec<(Option<usize>, Arc<Visibility>)> = Vec::new();
        for window in windows {
            // A window that nothing reaches past is no window.
            let effective = window.filter(|&window| window < longest);
            let known = visibilities.iter().find(|(w, _)| w.filter(|&w| w < longest) == effective);
            let seen = known.map_or_else(|| visibility(effective), |(_, seen)| Arc::clone(seen));
            visibilities.push((window, seen));
        }
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        Self {
            rows,
            time,
            ids: Tensor::from_data(TensorData::new(ids, [rows, time]), device),
            rotation: Rotation::new(frequencies, positions, device),
            visibilities,
        }
    }

    /// What layers with this window see.
    pub(crate) fn visibility(&self, window: Option<usize>) -> &Arc<Visibility> {
        let known = self.visibilities.iter().find(|(w, _)| *w == window);
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
