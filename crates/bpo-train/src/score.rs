//! Log-probs of whole completions, with and without gradients, in any layout.
use bpo_data::Layout;
use bpo_kernels::widened;
use bpo_loss::{Head, ScoredTokens};
use bpo_model::{Backward, Decoder, Error as ModelError, Input};
use burn::tensor::{Int, Tensor, TensorData};

use crate::Error;

/// Sequences of one scored batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scored {
    /// Σ log-probs of each sequence, `[sequences]`, added in f64.
    pub sums: Vec<f32>,
    /// Tokens of each sequence, `[sequences]`.
    pub lengths: Vec<usize>,
    /// The log-prob of each token, `[sequences][tokens]`.
    pub tokens: Vec<Vec<f32>>,
    /// log Σ_v p_v² at each token's position, `[sequences][tokens]`, where asked for.
    pub collisions: Vec<Vec<f32>>,
}

impl Scored {
    fn of(layout: &Layout, logps: &[f32], collisions: &[f32]) -> Self {
        let tokens = by_sequence(layout, logps);
        let sums = tokens.iter().map(|logps| sum(logps)).collect();
        let lengths = tokens.iter().map(Vec::len).collect();
        Self { sums, lengths, tokens, collisions: by_sequence(layout, collisions) }
    }
}

/// Values of the layout's targets, gathered by sequence; empty sequences where there are no values.
fn by_sequence(layout: &Layout, values: &[f32]) -> Vec<Vec<f32>> {
    let mut sequences = vec![Vec::new(); layout.sequences];
    for (target, &value) in layout.targets.iter().zip(values) {
        sequences[target.sequence as usize].push(value);
    }
    sequences
}

/// Added in f64.
pub(crate) fn sum(logps: &[f32]) -> f32 {
    logps.iter().map(|&logp| f64::from(logp)).sum::<f64>() as f32
}

/// Σ log-probs of every sequence of `layout` under `model`, without gradients.
///
/// # Errors
/// [`Error::Model`] when the layout does not fit the model.
pub fn sequence_logps(model: &Decoder, layout: &Layout) -> Result<Scored, Error> {
    score(model, layout, false)
}

/// As [`sequence_logps`], with the collisions of every position where `collisions` asks for them.
pub(crate) fn score(model: &Decoder, layout: &Layout, collisions: bool) -> Result<Scored, Error> {
    if layout.targets.is_empty() {
        return Ok(Scored::of(layout, &[], &[]));
    }
    let (hidden, tokens) = at_targets(model.hidden(&input(model, layout)?), layout);
    let head = Head::new(model.head_weight()).with_softcap(model.logit_softcap()).with_collisions(collisions);
    on_host(layout, &head.score(&hidden, &tokens)?)
}

/// The log-prob of every token of every sequence of `layout`, `[sequences][tokens]`, without gradients.
///
/// # Errors
/// As [`sequence_logps`].
pub fn token_logps(model: &Decoder, layout: &Layout) -> Result<Vec<Vec<f32>>, Error> {
    Ok(sequence_logps(model, layout)?.tokens)
}

fn on_host(layout: &Layout, scored: &ScoredTokens) -> Result<Scored, Error> {
    let collisions = scored.collisions.as_ref().map(host).transpose()?.unwrap_or_default();
    Ok(Scored::of(layout, &host(&scored.logps)?, &collisions))
}

/// dL/d(log-prob): how a loss of summed log-probs moves the tokens of each sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Slopes {
    /// dL/d(Σ weight·log-prob), `[sequences]`.
    pub sequences: Vec<f32>,
    /// The tokens' weights in that sum, `[sequences][tokens]`; all 1 where there are none.
    pub token_weights: Option<Vec<Vec<f32>>>,
}

impl Slopes {
    /// One coefficient per target of the layout.
    fn per_target(&self, layout: &Layout) -> Vec<f32> {
        let mut places = vec![0usize; layout.sequences];
        let mut coefficient = |sequence: usize| {
            let place = places[sequence];
            places[sequence] += 1;
            let weight = self.token_weights.as_ref().and_then(|weights| weights[sequence].get(place));
            self.sequences[sequence] * weight.copied().unwrap_or(1.0)
        };
        layout.targets.iter().map(|target| coefficient(target.sequence as usize)).collect()
    }
}

/// Scores `layout` under a model whose trainable tensors are autodiff leaves, asks `slopes` for
/// dL/d(Σ log-prob) of every sequence, and runs the backward pass of L.
///
/// The forward pass stops at the hidden states that predict a response token; the head is applied to
/// them in chunks. What flows back is the scalar `Σ_t hidden_t · detached(dL/d hidden_t)`, whose gradient
/// in everything below is exactly L's. A head that is itself trained gets its gradient from a second pass.
///
/// # Errors
/// [`Error::Model`], and whatever `slopes` returns.
pub fn backward(
    model: &Decoder,
    layout: &Layout,
    slopes: impl FnOnce(&Scored) -> Result<Vec<f32>, Error>,
) -> Result<(Scored, Backward), Error> {
    let slopes = |scored: &Scored| Ok(Slopes { sequences: slopes(scored)?, token_weights: None });
    backward_weighted(model, layout, false, slopes)
}

/// [`backward`] for a loss of weighted sums of log-probs, with collisions where asked for.
pub(crate) fn backward_weighted(
    model: &Decoder,
    layout: &Layout,
    collisions: bool,
    slopes: impl FnOnce(&Scored) -> Result<Slopes, Error>,
) -> Result<(Scored, Backward), Error> {
    let weight = model.head_weight();
    let head = Head::new(weight.clone()).with_softcap(model.logit_softcap()).with_collisions(collisions);
    model.backward(&input(model, layout)?, |hidden| {
        let (hidden, tokens) = at_targets(hidden, layout);
        if weight.is_tracked() {
            let scored = on_host(layout, &head.score(&hidden, &tokens)?)?;
            let coefficients = slopes(&scored)?.per_target(layout);
            let gradients = head.gradients(&hidden, &tokens, &coefficients)?;
            let through_head = (widened(weight) * gradients.weight).sum();
            Ok((scored, (widened(hidden) * gradients.hidden).sum() + through_head))
        } else {
            let tokens = head.score_with_slopes(&hidden, &tokens)?;
            let scored = on_host(layout, &tokens)?;
            let coefficients = slopes(&scored)?.per_target(layout);
            let length = coefficients.len();
            let scale = Tensor::<2>::from_data(TensorData::new(coefficients, [length, 1]), &hidden.device().inner());
            let slopes = tokens.slopes.unwrap_or_else(|| widened(hidden.clone().inner()));
            Ok((scored, (widened(hidden) * (slopes * scale)).sum()))
        }
    })
}

/// A layout as its model reads it.
pub(crate) fn input(model: &Decoder, layout: &Layout) -> Result<Input, Error> {
    let may_attend = |row, query, key| layout.may_attend(row, query, key);
    Ok(model.input([layout.rows, layout.time], &layout.ids, &layout.positions, may_attend)?)
}

/// Of the hidden states of a layout those that predict its targets, `[targets, hidden]`, and the targets.
fn at_targets(hidden: Tensor<2>, layout: &Layout) -> (Tensor<2>, Vec<u32>) {
    let places: Vec<i64> =
        layout.targets.iter().map(|t| i64::from(t.row) * layout.time as i64 + i64::from(t.time)).collect();
    let length = places.len();
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [length]), &hidden.device().inner());
    (hidden.select(0, places), layout.targets.iter().map(|target| target.token).collect())
}

/// A vector on the host.
pub(crate) fn host(values: &Tensor<1>) -> Result<Vec<f32>, Error> {
    let read = values.try_to_vec_as();
    read.map_err(|error| Error::Model(ModelError::Input(format!("reading a tensor back: {error}"))))
}
