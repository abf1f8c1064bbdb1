//! Log-probs of whole completions, with and without gradients, in any layout.
use bpo_data::Layout;
use bpo_loss::Head;
use bpo_model::{Decoder, Error as ModelError};
use burn::tensor::{Int, Tensor, TensorData};

use crate::Error;

/// Sequences of one scored batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Σ log-probs of each sequence, `[sequences]`.
    pub sums: Vec<f32>,
    /// Tokens of each sequence, `[sequences]`.
    pub lengths: Vec<usize>,
}

impl Scored {
    fn of(layout: &Layout, token_logps: &[f32]) -> Self {
        let mut sums = vec![0.0f64; layout.sequences];
        let mut lengths = vec![0; layout.sequences];
        for (target, &logp) in layout.targets.iter().zip(token_logps) {
            sums[target.sequence as usize] += f64::from(logp);
            lengths[target.sequence as usize] += 1;
        }
        Self { sums: sums.into_iter().map(|sum| sum as f32).collect(), lengths }
    }
}

/// Σ log-probs of every sequence of `layout` under `model`, without gradients.
///
/// # Errors
/// [`Error::Model`] when the layout does not fit the model.
pub fn sequence_logps(model: &Decoder, layout: &Layout) -> Result<Scored, Error> {
    Ok(Scored::of(layout, &target_logps(model, layout)?))
}

/// The log-prob of every token of every sequence of `layout`, `[sequences][tokens]`, without gradients.
///
/// # Errors
/// As [`sequence_logps`].
pub fn token_logps(model: &Decoder, layout: &Layout) -> Result<Vec<Vec<f32>>, Error> {
    let mut sequences = vec![Vec::new(); layout.sequences];
    for (target, logp) in layout.targets.iter().zip(target_logps(model, layout)?) {
        sequences[target.sequence as usize].push(logp);
    }
    Ok(sequences)
}

fn target_logps(model: &Decoder, layout: &Layout) -> Result<Vec<f32>, Error> {
    if layout.targets.is_empty() {
        return Ok(Vec::new());
    }
    let (hidden, tokens) = target_hidden(model, layout)?;
    host(&Head::new(model.head_weight()).score(&hidden, &tokens)?.logps)
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
) -> Result<(Scored, burn::tensor::Gradients), Error> {
    let (hidden, tokens) = target_hidden(model, layout)?;
    let weight = model.head_weight();
    let head = Head::new(weight.clone());
    let coefficients = |scored: &Scored, slopes: Vec<f32>| -> Vec<f32> {
        debug_assert_eq!(slopes.len(), scored.sums.len());
        layout.targets.iter().map(|target| slopes[target.sequence as usize]).collect()
    };
    let (scored, surrogate) = if weight.is_tracked() {
        let scored = Scored::of(layout, &host(&head.score(&hidden, &tokens)?.logps)?);
        let coefficients = coefficients(&scored, slopes(&scored)?);
        let gradients = head.gradients(&hidden, &tokens, &coefficients)?;
        let through_head = (weight * gradients.weight).sum();
        (scored, (hidden * gradients.hidden).sum() + through_head)
    } else {
        let tokens = head.score_with_slopes(&hidden, &tokens)?;
        let scored = Scored::of(layout, &host(&tokens.logps)?);
        let coefficients = coefficients(&scored, slopes(&scored)?);
        let length = coefficients.len();
        let scale = Tensor::<2>::from_data(TensorData::new(coefficients, [length, 1]), &hidden.device().inner());
        let slopes = tokens.slopes.unwrap_or_else(|| hidden.clone().inner());
        (scored, (hidden * (slopes * scale)).sum())
    };
    Ok((scored, surrogate.backward()))
}

/// Hidden states `[targets, hidden]` that predict the layout's targets, and those tokens.
fn target_hidden(model: &Decoder, layout: &Layout) -> Result<(Tensor<2>, Vec<u32>), Error> {
    let (shape, may_attend) = ([layout.rows, layout.time], |row, query, key| layout.may_attend(row, query, key));
    let input = model.input(shape, &layout.ids, &layout.positions, may_attend)?;
    let hidden = model.hidden(&input);
    let places: Vec<i64> =
        layout.targets.iter().map(|t| i64::from(t.row) * layout.time as i64 + i64::from(t.time)).collect();
    let length = places.len();
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [length]), &hidden.device().inner());
    Ok((hidden.select(0, places), layout.targets.iter().map(|target| target.token).collect()))
}

/// A vector on the host.
pub(crate) fn host(values: &Tensor<1>) -> Result<Vec<f32>, Error> {
    let read = values.try_to_vec_as();
    read.map_err(|error| Error::Model(ModelError::Input(format!("reading a tensor back: {error}"))))
}
