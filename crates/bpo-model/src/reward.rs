use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{
    Checkpoint, Decoder, DecoderConfig, Error, Input, Precision,
    config::{Keys, MODEL_TYPES},
    decoder::HeadKind,
    encoder::{self, Encoder, EncoderConfig, TypedRow},
    source::FromFile,
};

/// A reward model: a decoder (`LlamaForSequenceClassification`, `GemmaForSequenceClassification`, …) or an encoder
/// (`BertForSequenceClassification`, `DebertaV2ForSequenceClassification`, …) with a head for one label.
#[derive(Debug, Clone)]
pub struct SequenceClassifier(Body);

#[derive(Debug, Clone)]
enum Body {
    Decoder(Box<ScoredDecoder>),
    Encoder(Box<Encoder>),
}

/// A linear head on the hidden state of one token.
#[derive(Debug, Clone)]
struct ScoredDecoder {
    decoder: Decoder,
    /// `[1, hidden]`.
    score: Tensor<2>,
}

/// The tensor that makes a decoder's scores.
const DECODER_HEAD: &str = "score.weight";

impl SequenceClassifier {
    /// Whether a checkpoint holds a sequence classifier, rather than a language model or something else.
    pub fn is_in(checkpoint: &Checkpoint) -> bool {
        let has = |names: &[&str]| names.iter().any(|name| checkpoint.has(name));
        has(&[DECODER_HEAD, "classifier.weight", "classifier.out_proj.weight"])
            && !has(&["lm_head.weight", "embed_out.weight"])
    }

    /// Reads a sequence-classification model with one label from a Hugging Face directory.
    ///
    /// # Errors
    /// As [`Decoder::from_dir`]; [`Error::Unsupported`] when it has another number of labels, [`Error::NoScores`] when
    /// it has no head that scores.
    pub fn from_dir(dir: &Path, device: &Device) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let raw = Keys::parse(&path, &bytes)?;
        let device = device.clone().inner();
        if EncoderConfig::is_one(&raw) {
            let config = EncoderConfig::read(&path, &raw)?;
            let checkpoint = Checkpoint::open(dir)?;
            check_head(dir, &checkpoint, config.scores())?;
            return Ok(Self(Body::Encoder(Box::new(Encoder::read(config, &checkpoint, &device)?))));
        }
        let config = DecoderConfig::from_json(&path, &bytes).map_err(|error| match error {
            Error::Unsupported { path, key, value, .. } if key == "model_type" => {
                let encoders = encoder::MODEL_TYPES.join(", ");
                Error::Unsupported { path, key, value, supported: format!("supported: {MODEL_TYPES}, {encoders}") }
            }
            other => other,
        })?;
        let checkpoint = Checkpoint::open(dir)?;
        check_head(dir, &checkpoint, DECODER_HEAD)?;
        let score = checkpoint.read(DECODER_HEAD, [1, config.hidden_size], &device)?;
        let names = config.architecture.names();
        let mut source = FromFile::decoder(&checkpoint, names, &device, Precision::default());
        let decoder = Decoder::assemble(config, HeadKind::None, &mut source)?;
        source.finish_decoder(names)?;
        Ok(Self(Body::Decoder(Box::new(ScoredDecoder { decoder, score }))))
    }

    /// Ids that its embedding has.
    pub fn vocab_size(&self) -> usize {
        match &self.0 {
            Body::Decoder(model) => model.decoder.config().vocab_size,
            Body::Encoder(model) => model.config.vocab_size,
        }
    }

    /// Positions that it was trained for.
    pub fn context(&self) -> usize {
        match &self.0 {
            Body::Decoder(model) => model.decoder.config().max_position_embeddings,
            Body::Encoder(model) => model.config.context(),
        }
    }

    /// How many tokens a row may have, where there is an end: a longer one is refused.
    pub fn longest(&self) -> Option<usize> {
        match &self.0 {
            Body::Decoder(model) => model.decoder.config().longest(),
            Body::Encoder(model) => Some(model.config.longest()),
        }
    }

    /// `config.json`.
    pub fn raw_config(&self) -> &serde_json::Value {
        match &self.0 {
            Body::Decoder(model) => &model.decoder.config().raw,
            Body::Encoder(model) => &model.config.raw,
        }
    }

    /// Whether it is an encoder, which reads a prompt and a response as a pair: `[CLS] prompt [SEP] response [SEP]`.
    pub fn reads_pairs(&self) -> bool {
        matches!(self.0, Body::Encoder(_))
    }

    /// One score per row of token ids, all of type 0.
    ///
    /// # Errors
    /// As [`SequenceClassifier::typed_scores`].
    pub fn scores(&self, rows: &[&[u32]]) -> Result<Vec<f32>, Error> {
        let typed: Vec<TypedRow<'_>> = rows.iter().map(|ids| (*ids, [].as_slice())).collect();
        self.typed_scores(&typed)
    }

    /// One score per row of token ids and their types (BERT's 0 and 1 for the parts of a pair; those missing are 0, and
    /// models without types ignore them). Rows are right-padded to a common length. Which token of a decoder is read
    /// follows transformers: the last one that is not `pad_token_id`; of an encoder it is the first.
    ///
    /// # Errors
    /// [`Error::Input`] for an empty row, a token outside the vocabulary, a type that there is not, or more tokens
    /// than an encoder has positions.
    pub fn typed_scores(&self, rows: &[(&[u32], &[u32])]) -> Result<Vec<f32>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(row) = rows.iter().position(|(ids, _)| ids.is_empty()) {
            return Err(Error::Input(format!("row {row} has no tokens")));
        }
        let scores = match &self.0 {
            Body::Decoder(model) => model.scores(&rows.iter().map(|(ids, _)| *ids).collect::<Vec<_>>())?,
            Body::Encoder(model) => model.scores(rows)?,
        };
        scores.try_into_vec_as().map_err(|error| Error::Input(format!("reading the scores back: {error}")))
    }
}

/// Whether the head is there, and makes one score.
fn check_head(dir: &Path, checkpoint: &Checkpoint, tensor: &str) -> Result<(), Error> {
    match checkpoint.shape(tensor).map(|shape| shape.first().copied().unwrap_or_default()) {
        Some(1) => Ok(()),
        Some(labels) => Err(Error::Unsupported {
            path: dir.join("config.json"),
            key: "num_labels".into(),
            value: labels.to_string(),
            supported: "supported: 1, a scalar reward".into(),
        }),
        None => Err(Error::NoScores { path: dir.to_path_buf(), tensor: tensor.to_string() }),
    }
}

impl ScoredDecoder {
    /// `[rows, 1]`.
    fn scores(&self, rows: &[&[u32]]) -> Result<Tensor<2>, Error> {
        let (input, time) = self.padded(rows)?;
        let last: Vec<i64> = rows.iter().enumerate().map(|(row, ids)| (row * time + self.pooled(ids)) as i64).collect();
        let hidden = self.decoder.hidden(&input);
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [rows.len()]), &hidden.device());
        Ok(hidden.select(0, last).matmul(self.score.clone().transpose()))
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
