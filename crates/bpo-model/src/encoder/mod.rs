//! Encoders with a classification head: BERT, RoBERTa, DistilBERT and DeBERTa-v3.
mod config;
mod layer;
mod names;
mod relative;
mod weights;

use std::sync::Arc;

use bpo_kernels::{Visibility, is_fused};
use burn::tensor::{Device, Int, Tensor, TensorData};

pub use self::config::EncoderConfig;
pub(crate) use self::config::MODEL_TYPES;
use self::{
    layer::{Layer, Sight},
    relative::Distances,
};
use crate::{
    Checkpoint, Error,
    layer::linear,
    linear::Linear,
    norm::Norm,
    source::{FreshHead, FromFile, Source},
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
    /// Reads an encoder; `fresh` makes what is missing of its head.
    pub fn read(
        config: EncoderConfig,
        checkpoint: &Checkpoint,
        device: &Device,
        fresh: Option<&mut FreshHead>,
    ) -> Result<Self, Error> {
        let names = config.names;
        let mut source = FromFile::encoder(checkpoint, names.embeddings, names.prefix(), device);
        let encoder = match fresh {
            Some(fresh) => Self::assemble(config, &mut fresh.beside(&mut source, |tensor| names.is_of_head(tensor)))?,
            None => Self::assemble(config, &mut source)?,
        };
        source.finish_below(names.encoder).map(|()| encoder)
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
        let dense = linear(names.dense.into(), [hidden, c.head_inputs * hidden], true, source)?;
        let out = linear(names.out.into(), [c.labels, hidden], true, source)?;
        Ok(Self { words, positions, types, norm, layers, distances, dense, out, config })
    }

    /// Hidden states of the first token of each row, `[rows, hidden]`: what the head reads.
    pub fn features(&self, rows: &[TypedRow<'_>]) -> Result<Tensor<2>, Error> {
        let (hidden, starts) = self.hidden(rows)?;
        Ok(hidden.select(0, integers(starts.iter().map(|&start| start as i64).collect(), &self.device())))
    }

    /// Hidden states of all tokens, `[tokens, hidden]`, and where each row begins in them. Where attention computes only
    /// what a token sees, the rows lie one behind the other without padding.
    pub fn hidden(&self, rows: &[TypedRow<'_>]) -> Result<(Tensor<2>, Vec<usize>), Error> {
        rows.iter().enumerate().try_for_each(|(index, row)| self.check(index, row))?;
        let lengths: Vec<usize> = rows.iter().map(|(ids, _)| ids.len()).collect();
        let device = self.device();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let packs = self.distances.is_none() && is_fused(&self.words);
        let ends = |of: &dyn Fn(&usize) -> usize| {
            lengths
                .iter()
                .scan(0, |end, length| {
                    *end += of(length);
                    Some(*end)
                })
                .collect::<Vec<usize>>()
        };
        let ends = if packs { ends(&|length| *length) } else { ends(&|_| longest) };
        let starts: Vec<usize> = std::iter::once(0).chain(ends.iter().copied()).take(rows.len()).collect();
        let tokens = ends.last().copied().unwrap_or(0);
        let sight = match &self.distances {
            Some(distances) => Sight::Distances(distances, Box::new(distances.places(&lengths, longest, &device))),
            // Padding looks at what the row holds, too: what it sees is never read.
            None => {
                let row = |query: usize| ends.partition_point(|end| *end <= query);
                let (shown, time) = if packs { (1, tokens) } else { (rows.len(), longest) };
                Sight::Visibility(Arc::new(Visibility::new(shown, time, |query| {
                    let row = row(query);
                    std::iter::once(starts[row]..starts[row] + lengths[row])
                })))
            }
        };
        let mut x = self.embed(rows, &starts, tokens);
        for layer in &self.layers {
            x = layer.forward(x, self.config.heads(), self.config.activation, &sight);
        }
        Ok((x, starts))
    }

    /// The numbers for each row of [`Encoder::features`], `[rows, labels]`.
    pub fn head(&self, features: Tensor<2>) -> Tensor<2> {
        let dense = self.dense.forward(features);
        self.out.forward(match self.config.head_activation {
            Some(activation) => activation.of(dense),
            None => dense.tanh(),
        })
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.words.device().inner()
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

    /// Sum of what a token is, where it stands and which part it belongs to, normalised, `[tokens, hidden]`.
    fn embed(&self, rows: &[TypedRow<'_>], starts: &[usize], tokens: usize) -> Tensor<2> {
        let device = self.device();
        let batch = |row: &dyn Fn(&TypedRow<'_>) -> Vec<u32>| {
            let mut all = vec![0; tokens];
            for (of, &start) in rows.iter().zip(starts) {
                row(of).into_iter().enumerate().for_each(|(place, value)| all[start + place] = i64::from(value));
            }
            integers(all, &device)
        };
        let mut x = self.words.clone().select(0, batch(&|(ids, _)| ids.to_vec()));
        if let Some(types) = &self.types {
            // A model with one type has it everywhere.
            let of_one = self.config.type_vocab_size < 2;
            let kind = |&kind: &u32| if of_one { 0 } else { kind };
            x = x + types.clone().select(0, batch(&|(_, types)| types.iter().map(kind).collect()));
        }
        if let Some(table) = &self.positions {
            x = x + table.clone().select(0, batch(&|(ids, _)| self.places(ids)));
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

pub(crate) fn integers(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}
