//! What a text's score is: Σ log-probs, or the official form's Σ raw logits.
use bpo_data::{Layout, Segment};
use bpo_kernels::widened;
use bpo_model::{Backward, Decoder};
use burn::tensor::{Int, Tensor, TensorData};

use crate::{
    CausalForm, Error, backward,
    score::{host, input},
    sequence_logps,
};

impl CausalForm {
    /// Scores of every sequence of `layout`, without gradients.
    pub(crate) fn scores(self, model: &Decoder, layout: &Layout) -> Result<Vec<f32>, Error> {
        match self {
            Self::Textbook => Ok(sequence_logps(model, layout)?.sums),
            Self::Official => {
                let places = Places::of(layout);
                let hidden = model.hidden(&input(model, layout)?);
                Ok(places.sums(&host(&raw_logits(model, hidden, &places).inner())?))
            }
        }
    }

    /// Runs the backward pass of a loss whose slopes dL/d(score) `slopes` gives for the scores of `layout`.
    pub(crate) fn backward(
        self,
        model: &Decoder,
        layout: &Layout,
        slopes: impl FnOnce(&[f32]) -> Result<Vec<f32>, Error>,
    ) -> Result<Backward, Error> {
        match self {
            Self::Textbook => Ok(backward(model, layout, |scored| slopes(&scored.sums))?.1),
            Self::Official => {
                let places = Places::of(layout);
                let (_, gradients) = model.backward(&input(model, layout)?, |hidden| {
                    let logits = raw_logits(model, hidden, &places);
                    let slopes = slopes(&places.sums(&host(&logits.clone().inner())?))?;
                    let each: Vec<f32> = places.sequences.iter().map(|&sequence| slopes[sequence]).collect();
                    let length = each.len();
                    let each = Tensor::<1>::from_data(TensorData::new(each, [length]), &logits.device());
                    Ok::<_, Error>(((), (logits * each).sum()))
                })?;
                Ok(gradients)
            }
        }
    }
}

/// Where completion tokens are: the official form reads the logit of each at its own place, where it is input.
struct Places {
    /// Index into the layout's `[rows, time]`, of each token.
    indices: Vec<i64>,
    tokens: Vec<i64>,
    /// The completion it belongs to.
    sequences: Vec<usize>,
    count: usize,
}

impl Places {
    fn of(layout: &Layout) -> Self {
        let first = first_sequences(layout);
        let (mut indices, mut tokens, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
        for (index, segment) in layout.segments.iter().enumerate() {
            if *segment != Segment::PAD && segment.branch > 0 {
                indices.push(index as i64);
                tokens.push(i64::from(layout.ids[index]));
                sequences.push(first[segment.group as usize] + segment.branch as usize - 1);
            }
        }
        Self { indices, tokens, sequences, count: layout.sequences }
    }

    /// Sums by completion, added in f64.
    fn sums(&self, values: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0f64; self.count];
        for (&sequence, &value) in self.sequences.iter().zip(values) {
            sums[sequence] += f64::from(value);
        }
        sums.into_iter().map(|sum| sum as f32).collect()
    }
}

/// The number of the first completion of each group, from the branches there are: none is empty here.
fn first_sequences(layout: &Layout) -> Vec<usize> {
    let mut branches: Vec<usize> = Vec::new();
    for segment in layout.segments.iter().filter(|segment| **segment != Segment::PAD) {
        let group = segment.group as usize;
        branches.resize(branches.len().max(group + 1), 0);
        branches[group] = branches[group].max(segment.branch as usize);
    }
    let next = |next: &mut usize, branches: usize| {
        let first = *next;
        *next += branches;
        Some(first)
    };
    branches.into_iter().scan(0, next).collect()
}

/// `[tokens]`, the logit of each completion token at its own place.
fn raw_logits(model: &Decoder, hidden: Tensor<2>, places: &Places) -> Tensor<1> {
    let device = hidden.device().inner();
    let pick = |values: &[i64]| Tensor::<1, Int>::from_data(TensorData::new(values.to_vec(), [values.len()]), &device);
    let rows = widened(model.head_weight().select(0, pick(&places.tokens)));
    let logits = (widened(hidden.select(0, pick(&places.indices))) * rows).sum_dim(1).squeeze_dim(1);
    match model.logit_softcap() {
        Some(cap) => (logits / cap).tanh() * cap,
        None => logits,
    }
}
