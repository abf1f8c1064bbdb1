//! Encoders with a classification head: BERT, RoBERTa, DistilBERT and DeBERTa-v3.
mod config;
mod layer;
mod names;
mod relative;

use std::sync::Arc;

use bpo_kernels::Visibility;
use burn::tensor::{Device, Int, Tensor, TensorData};

pub use self::config::EncoderConfig;
pub(crate) use self::config::MODEL_TYPES;
use self::{
    layer::{Layer, Sight},
    relative::Distances,
};
use crate::{
    Checkpoint, Error, Precision, layer::linear, linear::Linear, norm::Norm, source::FromFile, source::Source,
};

/// An encoder whose first token's hidden state, through a layer and an activation, is scored.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    pub config: EncoderConfig,
    /// `[vocab, hidden]`.
    words: Tensor<2>,
    /// `[max_position_embeddings, hidden]`.
    positions: Option<Tensor<2>>,
    /// `[type_vocab_size, hidden]`.
    types: Option<Tensor<2>>,
    norm: Norm,
    layers: Vec<Layer>,
    distances: Option<Distances>,
    dense: Linear,
    out: Linear,
}

/// A row of token ids and their types, which may be fewer: the rest are 0.
pub(crate) type TypedRow<'a> = (&'a [u32], &'a [u32]);

impl Encoder {
    pub fn read(config: EncoderConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Self, Error> {
        let mut source = FromFile::new(checkpoint, device, Precision::default());
        let encoder = Self::assemble(config, &mut source)?;
        let inside = format!("{}.", encoder.config.names.encoder);
        source.finish(|tensor| tensor.starts_with(&inside)).map(|()| encoder)
    }

    fn assemble(config: EncoderConfig, source: &mut dyn Source) -> Result<Self, Error> {
        let (c, names, hidden) = (&config, config.names, config.hidden_size);
        let mut table = |name: &str, rows: usize| {
            source.matrix(&format!("{}.{name}.weight", names.embeddings), [rows, hidden], false)
        };
        let words = table("word_embeddings", c.vocab_size)?;
        let learned = c.learned_positions.then(|| table("position_embeddings", c.max_position_embeddings));
        let positions = learned.transpose()?;
        let types = (c.type_vocab_size > 0).then(|| table("token_type_embeddings", c.type_vocab_size)).transpose()?;
        let norm = Norm::layer(format!("{}.LayerNorm", names.embeddings), hidden, c.norm_eps, source)?;
        let layers = (0..c.num_hidden_layers).map(|i| Layer::read(c, i, source)).collect::<Result<Vec<_>, _>>()?;
        let distances = c.relative.as_ref().map(|relative| Distances::read(c, relative, source)).transpose()?;
        let dense = linear(names.dense.into(), [hidden, hidden], true, source)?;
        let out = linear(names.out.into(), [1, hidden], true, source)?;
        Ok(Self { words, positions, types, norm, layers, distances, dense, out, config })
    }

    /// One score for each row, `[rows, 1]`.
    pub fn scores(&self, rows: &[TypedRow<'_>]) -> Result<Tensor<2>, Error> {
        rows.iter().enumerate().try_for_each(|(index, row)| self.check(index, row))?;
        let time = rows.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
        let lengths: Vec<usize> = rows.iter().map(|(ids, _)| ids.len()).collect();
        let device = self.words.device();
        let sight = match &self.distances {
            Some(distances) => Sight::Distances(distances, Box::new(distances.places(&lengths, time, &device))),
            // Padding looks at what the row holds, too: what it sees is never read.
            None => Sight::Visibility(Arc::new(Visibility::new(lengths.len(), time, |query| {
                let start = query / time * time;
                std::iter::once(start..start + lengths[query / time])
            }))),
        };
        let mut x = self.embed(rows, time);
        for layer in &self.layers {
            x = layer.forward(x, self.config.heads(), self.config.activation, &sight);
        }
        let first = (0..rows.len()).map(|row| (row * time) as i64).collect();
        let dense = self.dense.forward(x.select(0, integers(first, &device)));
        Ok(self.out.forward(match self.config.head_activation {
            Some(activation) => activation.of(dense),
            None => dense.tanh(),
        }))
    }

    fn check(&self, index: usize, (ids, types): &TypedRow<'_>) -> Result<(), Error> {
        let (vocab, kinds, longest) = (self.config.vocab_size, self.config.type_vocab_size, self.config.longest());
        let refuse = |reason: String| Err(Error::Input(reason));
        if ids.len() > longest {
            return refuse(format!("row {index} has {} tokens, the model reads {longest} at most", ids.len()));
        }
        if types.len() > ids.len() {
            return refuse(format!("row {index} has {} token types for {} tokens", types.len(), ids.len()));
        }
        match (ids.iter().find(|&&id| id as usize >= vocab), types.iter().find(|&&kind| kind as usize >= kinds)) {
            (Some(id), _) => refuse(format!("token id {id} is outside the model's vocabulary of {vocab}")),
            (None, Some(kind)) if kinds > 1 => refuse(format!("token type {kind}: the model has {kinds}")),
            _ => Ok(()),
        }
    }

    /// Sum of what a token is, where it stands and which part it belongs to, normalised, `[rows · time, hidden]`.
    fn embed(&self, rows: &[TypedRow<'_>], time: usize) -> Tensor<2> {
        let device = self.words.device();
        let padded = |values: &mut dyn Iterator<Item = u32>| {
            let mut row: Vec<i64> = values.map(i64::from).collect();
            row.resize(time, 0);
            row
        };
        let batch = |row: &dyn Fn(&TypedRow<'_>) -> Vec<i64>| integers(rows.iter().flat_map(row).collect(), &device);
        let mut x = self.words.clone().select(0, batch(&|(ids, _)| padded(&mut ids.iter().copied())));
        if let Some(types) = &self.types {
            // A model with one type has it everywhere.
            let of_one = self.config.type_vocab_size < 2;
            let kind = |&kind: &u32| if of_one { 0 } else { kind };
            x = x + types.clone().select(0, batch(&|(_, types)| padded(&mut types.iter().map(kind))));
        }
        if let Some(table) = &self.positions {
            x = x + table.clone().select(0, batch(&|(ids, _)| padded(&mut self.places(ids).into_iter())));
        }
        self.norm.forward(x)
    }

    /// Rows of the table of positions.
    fn places(&self, ids: &[u32]) -> Vec<u32> {
        let Some(pad) = self.config.counts_from_pad else { return (0..ids.len() as u32).collect() };
        let mut counted = pad;
        let place = |&id: &u32| {
            counted += u32::from(id != pad);
            if id == pad { pad } else { counted }
        };
        ids.iter().map(place).collect()
    }
}

fn integers(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}
