use std::path::Path;

use burn::tensor::{Device, Tensor};
use serde_json::Value;

use crate::{
    Checkpoint, Error,
    config::Keys,
    encoder::{Encoder, EncoderConfig, integers},
};

/// An encoder that reads a prompt with two responses and says which is better: a cross-encoder with one or two labels, or
/// PairRM in the form of `llm-blender/PairRM-hf` (Jiang et al. 2023, arXiv:2306.02561).
#[derive(Debug, Clone)]
pub struct PairClassifier {
    encoder: Encoder,
    marks: Option<PairMarks>,
}

/// The tokens by which PairRM finds the prompt and the responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairMarks {
    /// Before the prompt.
    pub source: u32,
    /// Before the response shown first.
    pub first: u32,
    /// Before the response shown second.
    pub second: u32,
}

impl PairClassifier {
    /// Reads a ranker from a Hugging Face directory.
    ///
    /// # Errors
    /// Those of [`EncoderConfig::from_dir`] and [`Checkpoint::open`]; [`Error::Unsupported`] for a model that is no encoder
    /// or has more than two labels, [`Error::NoScores`] for one without a head.
    pub fn from_dir(dir: &Path, device: &Device) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let raw = Keys::parse(&path, &std::fs::read(&path).map_err(Error::io(&path))?)?;
        let unsupported = |key: &str, value: String, supported: &str| Error::Unsupported {
            path: path.clone(),
            key: key.into(),
            value,
            supported: supported.into(),
        };
        if !EncoderConfig::is_one(&raw) {
            let found = raw.get("model_type").map_or("(none)".to_string(), Value::to_string);
            return Err(unsupported("model_type", found, "a pair ranker is an encoder"));
        }
        let (config, checkpoint) = (EncoderConfig::read(&path, &raw)?, Checkpoint::open(dir)?);
        let marks = marks(&path, &raw)?;
        let mut config = if marks.is_some() { config.pair_rm() } else { config };
        let tensor = config.scores();
        let labels = match checkpoint.shape(tensor).and_then(|shape| shape.first().copied()) {
            Some(labels) => labels,
            None => return Err(Error::NoScores { path: dir.to_path_buf(), tensor: tensor.to_string() }),
        };
        if marks.is_none() && labels > 2 {
            return Err(unsupported("num_labels", labels.to_string(), "supported: 1 and 2"));
        }
        config.labels = labels;
        Ok(Self { encoder: Encoder::read(config, &checkpoint, &device.clone().inner(), None)?, marks })
    }

    /// The marks of PairRM's rows; `None` of a cross-encoder.
    pub fn marks(&self) -> Option<PairMarks> {
        self.marks
    }

    /// Ids that its embedding has.
    pub fn vocab_size(&self) -> usize {
        self.encoder.config.vocab_size
    }

    /// How many tokens a row may have at most.
    pub fn longest(&self) -> usize {
        self.encoder.config.longest()
    }

    /// One number for each row of token ids and their types: above 0 the response shown first is better. Of two labels it
    /// is the first minus the second; of PairRM the mean over its tasks of what the first response gets more.
    ///
    /// # Errors
    /// [`Error::Input`] for a row that the encoder cannot read, or that lacks a mark.
    pub fn logits(&self, rows: &[(&[u32], &[u32])]) -> Result<Vec<f32>, Error> {
        let made = match self.marks {
            Some(marks) => self.marked(rows, marks)?,
            None => {
                let labels = self.encoder.head(self.encoder.features(rows)?);
                match labels.dims()[1] {
                    1 => labels,
                    _ => labels.clone().narrow(1, 0, 1) - labels.narrow(1, 1, 1),
                }
            }
        };
        made.try_into_vec_as().map_err(|error| Error::Input(format!("reading the scores back: {error}")))
    }

    /// `[rows, 1]`.
    fn marked(&self, rows: &[(&[u32], &[u32])], marks: PairMarks) -> Result<Tensor<2>, Error> {
        let (hidden, starts) = self.encoder.hidden(rows)?;
        let at = |mark: u32| -> Result<Tensor<2>, Error> {
            let place = |(row, start): (usize, &usize)| {
                let place = rows[row].0.iter().position(|&id| id == mark).map(|place| (start + place) as i64);
                place.ok_or_else(|| Error::Input(format!("row {row} has no token {mark}")))
            };
            let places = starts.iter().enumerate().map(place).collect::<Result<Vec<i64>, Error>>()?;
            Ok(hidden.clone().select(0, integers(places, &self.encoder.device())))
        };
        let [source, first, second] = [at(marks.source)?, at(marks.first)?, at(marks.second)?];
        let score = |response: Tensor<2>| self.encoder.head(Tensor::cat(vec![source.clone(), response], 1));
        Ok((score(first) - score(second)).mean_dim(1))
    }
}

/// Those that `config.json` names; `None` where it is not PairRM's.
fn marks(path: &Path, raw: &Value) -> Result<Option<PairMarks>, Error> {
    let [source, first, second] = ["source_prefix_id", "cand1_prefix_id", "cand2_prefix_id"].map(|key| raw.get(key));
    let (Some(source), Some(first), Some(second)) = (source, first, second) else { return Ok(None) };
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| Error::Json { path: path.to_path_buf(), reason: format!("{value} is not a token id") })
    };
    Ok(Some(PairMarks { source: id(source)?, first: id(first)?, second: id(second)? }))
}
