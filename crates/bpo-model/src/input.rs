use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{DecoderConfig, Error, rope::Rotation};

/// Added to the attention score of a position that must not be seen: its weight is exactly 0.
pub(crate) const HIDDEN: f32 = -1e30;

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
    biases: Vec<(Option<usize>, Tensor<4>)>,
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
        let bias = |window: Option<usize>| {
            let mut bias = vec![HIDDEN; rows * time * time];
            for row in 0..rows {
                let position = |index: usize| positions[row * time + index] as usize;
                for query in 0..time {
                    let line = &mut bias[(row * time + query) * time..][..=query];
                    for (key, value) in line.iter_mut().enumerate() {
                        let near = window.is_none_or(|window| position(key) + window > position(query));
                        if key == query || (near && may_attend(row, query, key)) {
                            *value = 0.0;
                        }
                    }
                }
            }
            grouped_bias(bias, [rows, time, time], config.group(), device)
        };
        let longest = positions.iter().max().map_or(0, |&p| p as usize + 1);
        let mut biases: Vec<(Option<usize>, Tensor<4>)> = Vec::new();
        for window in windows {
            // A window that nothing reaches past is no window.
            let effective = window.filter(|&window| window < longest);
            let known = biases.iter().find(|(w, _)| w.filter(|&w| w < longest) == effective);
            let tensor = known.map_or_else(|| bias(effective), |(_, bias)| bias.clone());
            biases.push((window, tensor));
        }
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        Self {
            rows,
            time,
            ids: Tensor::from_data(TensorData::new(ids, [rows, time]), device),
            rotation: Rotation::new(frequencies, positions, rows, time, device),
            biases,
        }
    }

    /// `[rows, 1, group · time, time]`, 0 where a query may look and [`HIDDEN`] elsewhere.
    pub(crate) fn bias(&self, window: Option<usize>) -> Tensor<4> {
        let bias = self.biases.iter().find(|(w, _)| *w == window).or(self.biases.first());
        match bias {
            Some((_, bias)) => bias.clone(),
            None => Tensor::zeros([1, 1, 1, 1], &self.ids.device()),
        }
    }
}

/// Repeats a bias `[rows, queries, keys]` for the `group` query heads that share a key head:
/// `[rows, 1, group · queries, keys]`.
pub(crate) fn grouped_bias(
    bias: Vec<f32>,
    [rows, queries, keys]: [usize; 3],
    group: usize,
    device: &Device,
) -> Tensor<4> {
    let bias = Tensor::<4>::from_data(TensorData::new(bias, [rows, 1, queries, keys]), device);
    if group == 1 { bias } else { bias.repeat_dim(2, group) }
}
