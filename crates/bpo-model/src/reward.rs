use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{
    Checkpoint, Decoder, DecoderConfig, Error, Input, Precision,
    decoder::{FromFile, HeadKind},
};

/// A decoder with a linear head on one token's hidden state: a reward model
/// (`LlamaForSequenceClassification`, `GemmaForSequenceClassification`, …) with one label.
#[derive(Debug, Clone)]
pub struct SequenceClassifier {
    decoder: Decoder,
    /// `[1, hidden]`.
    score: Tensor<2>,
}

impl SequenceClassifier {
    /// Reads a sequence-classification model with one label from a Hugging Face directory.
    ///
    /// # Errors
    /// As [`Decoder::from_dir`]; [`Error::Unsupported`] when it has another number of labels,
    /// [`Error::MissingTensor`] when it has no `score.weight` (a causal model has none).
    pub fn from_dir(dir: &Path, device: &Device) -> Result<Self, Error> {
        let config = DecoderConfig::from_dir(dir)?;
        let checkpoint = Checkpoint::open(dir)?;
        let device = device.clone().inner();
        if let Some(shape) = checkpoint.shape("score.weight").filter(|shape| shape.first() != Some(&1)) {
            return Err(Error::Unsupported {
                path: dir.join("config.json"),
                key: "num_labels".into(),
                value: shape.first().copied().unwrap_or(config.num_labels).to_string(),
                supported: "supported: 1, a scalar reward".into(),
            });
        }
        let score = checkpoint.read("score.weight", [1, config.hidden_size], &device)?;
        let mut source = FromFile::new(&checkpoint, &device, Precision::default());
        let decoder = Decoder::assemble(config, HeadKind::None, &mut source)?;
        source.finish()?;
        Ok(Self { decoder, score })
    }

    /// The decoder below the head.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// One score per row of token ids. Rows are right-padded to a common length; which token is read
    /// follows transformers: the last one that is not `pad_token_id`.
    ///
    /// # Errors
    /// [`Error::Input`] for an empty row or a token outside the vocabulary.
    pub fn scores(&self, rows: &[&[u32]]) -> Result<Vec<f32>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(row) = rows.iter().position(|row| row.is_empty()) {
            return Err(Error::Input(format!("row {row} has no tokens")));
        }
        let (input, time) = self.padded(rows)?;
        let last: Vec<i64> = rows.iter().enumerate().map(|(row, ids)| (row * time + self.pooled(ids)) as i64).collect();
        let hidden = self.decoder.hidden(&input);
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [rows.len()]), &hidden.device());
        let scores = hidden.select(0, last).matmul(self.score.clone().transpose());
        scores.try_into_vec_as().map_err(|error| Error::Input(format!("reading the scores back: {error}")))
    }

    fn padded(&self, rows: &[&[u32]]) -> Result<(Input, usize), Error> {
        let time = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut ids = vec![0; rows.len() * time];
        for (row, tokens) in rows.iter().enumerate() {
            ids[row * time..row * time + tokens.len()].copy_from_slice(tokens);
        }
        let positions: Vec<u32> = (0..rows.len()).flat_map(|_| 0..time as u32).collect();
        let input = self.decoder.input([rows.len(), time], &ids, &positions, |_, _, _| true)?;
        Ok((input, time))
    }

    /// Index of the token whose hidden state is scored.
    fn pooled(&self, ids: &[u32]) -> usize {
        match self.decoder.config().pad_token_id {
            Some(pad) => ids.iter().rposition(|&id| id != pad).unwrap_or(0),
            None => ids.len() - 1,
        }
    }
}
