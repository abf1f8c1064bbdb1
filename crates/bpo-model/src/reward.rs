mod files;
mod training;

use std::path::Path;

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use crate::{
    Checkpoint, Decoder, DecoderConfig, Dtype, Error, Input,
    config::{Keys, MODEL_TYPES},
    decoder::HeadKind,
    encoder::{self, Encoder, EncoderConfig, TypedRow},
    precision::cast,
    source::{FreshHead, FromFile},
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
        Self::read(dir, device, Dtype::Float32, None).map(|(model, _)| model)
    }

    /// As [`SequenceClassifier::from_dir`], to be trained: of a model without a head that scores, or with a part of one,
    /// what is missing is made by `seed` (normal with `initializer_range`, biases zero), and its tensors are named. The
    /// head of a language model is left out. `dtype` is for decoders; encoders are f32.
    ///
    /// # Errors
    /// As [`SequenceClassifier::from_dir`] but for [`Error::NoScores`]; [`Error::Unsupported`] for an encoder in
    /// `bfloat16`.
    pub fn to_be_trained(dir: &Path, device: &Device, dtype: Dtype, seed: u64) -> Result<(Self, Vec<String>), Error> {
        Self::read(dir, device, dtype, Some(seed))
    }

    fn read(dir: &Path, device: &Device, dtype: Dtype, seed: Option<u64>) -> Result<(Self, Vec<String>), Error> {
        let path = dir.join("config.json");
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let raw = Keys::parse(&path, &bytes)?;
        let device = device.clone().inner();
        let mut fresh = seed.map(|seed| FreshHead::new(seed, &raw));
        let made = |fresh: Option<FreshHead>| fresh.map(|fresh| fresh.made).unwrap_or_default();
        if EncoderConfig::is_one(&raw) {
            if dtype == Dtype::Bfloat16 {
                let (key, value) = ("model_type".into(), raw["model_type"].to_string());
                let supported = "dtype = \"bfloat16\" is for decoders; encoders are float32".into();
                return Err(Error::Unsupported { path, key, value, supported });
            }
            let config = EncoderConfig::read(&path, &raw)?;
            let checkpoint = Checkpoint::open(dir)?;
            check_head(dir, &checkpoint, config.scores(), fresh.is_some())?;
            let encoder = Encoder::read(config, &checkpoint, &device, fresh.as_mut())?;
            return Ok((Self(Body::Encoder(Box::new(encoder))), made(fresh)));
        }
        let config = DecoderConfig::from_json(&path, &bytes).map_err(|error| match error {
            Error::Unsupported { path, key, value, .. } if key == "model_type" => {
                let encoders = encoder::MODEL_TYPES.join(", ");
                Error::Unsupported { path, key, value, supported: format!("supported: {MODEL_TYPES}, {encoders}") }
            }
            other => other,
        })?;
        let checkpoint = Checkpoint::open(dir)?;
        check_head(dir, &checkpoint, DECODER_HEAD, fresh.is_some())?;
        let shape = [1, config.hidden_size];
        let score = match &mut fresh {
            Some(fresh) if !checkpoint.has(DECODER_HEAD) => fresh.matrix(DECODER_HEAD, shape, &device),
            _ => checkpoint.read(DECODER_HEAD, shape, &device)?,
        };
        let names = config.architecture.names();
        let precision = dtype.precision(&checkpoint, &device);
        let mut source = FromFile::decoder(&checkpoint, names, &device, precision);
        let decoder = Decoder::assemble(config, HeadKind::None, &mut source)?;
        source.finish_decoder(names)?;
        Ok((Self(Body::Decoder(Box::new(ScoredDecoder { decoder, score }))), made(fresh)))
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
    /// models without types ignore them). Which token of a decoder is read
    /// follows transformers: the last one that is not `pad_token_id`; of an encoder it is the first.
    ///
    /// # Errors
    /// [`Error::Input`] for an empty row, a token outside the vocabulary, a type that there is not, or more tokens
    /// than an encoder has positions.
    pub fn typed_scores(&self, rows: &[(&[u32], &[u32])]) -> Result<Vec<f32>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let scores = self.head(self.features(rows)?);
        scores.try_into_vec_as().map_err(|error| Error::Input(format!("reading the scores back: {error}")))
    }

    /// What the head reads of each row, `[rows, hidden]`: with a body that stays as it is it is enough to compute this
    /// once.
    ///
    /// # Errors
    /// As [`SequenceClassifier::typed_scores`].
    pub fn features(&self, rows: &[(&[u32], &[u32])]) -> Result<Tensor<2>, Error> {
        check_rows(rows)?;
        match &self.0 {
            Body::Decoder(model) => {
                let (input, last) = model.batch(rows)?;
                Ok(model.decoder.hidden(&input).select(0, last))
            }
            Body::Encoder(model) => model.features(rows),
        }
    }

    /// The scores of [`SequenceClassifier::features`], `[rows, 1]`.
    pub fn head(&self, features: Tensor<2>) -> Tensor<2> {
        match &self.0 {
            Body::Decoder(model) => model.head(features),
            Body::Encoder(model) => model.head(features),
        }
    }
}

fn check_rows(rows: &[TypedRow<'_>]) -> Result<(), Error> {
    match rows.iter().position(|(ids, _)| ids.is_empty()) {
        Some(row) => Err(Error::Input(format!("row {row} has no tokens"))),
        None => Ok(()),
    }
}

/// Whether the head is there, and makes one score.
fn check_head(dir: &Path, checkpoint: &Checkpoint, tensor: &str, may_be_new: bool) -> Result<(), Error> {
    match checkpoint.shape(tensor).map(|shape| shape.first().copied().unwrap_or_default()) {
        Some(1) => Ok(()),
        Some(labels) => Err(Error::Unsupported {
            path: dir.join("config.json"),
            key: "num_labels".into(),
            value: labels.to_string(),
            supported: "supported: 1, a scalar reward".into(),
        }),
        None if may_be_new => Ok(()),
        None => Err(Error::NoScores { path: dir.to_path_buf(), tensor: tensor.to_string() }),
    }
}

impl ScoredDecoder {
    fn head(&self, features: Tensor<2>) -> Tensor<2> {
        cast(features, FloatDType::F32).matmul(self.score.clone().transpose())
    }

    /// The rows one behind the other in rows that are as long as pays, and the places of the tokens that are scored.
    fn batch(&self, rows: &[TypedRow<'_>]) -> Result<(Input, Tensor<1, Int>), Error> {
        let longest = rows.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
        let room = self.decoder.row_length(longest);
        let (mut places, mut line, mut filled) = (Vec::with_capacity(rows.len()), 0, 0);
        for (ids, _) in rows {
            if filled + ids.len() > room {
                (line, filled) = (line + 1, 0);
            }
            places.push((line, filled));
            filled += ids.len();
        }
        let ends = places.iter().zip(rows).map(|((_, start), (ids, _))| start + ids.len());
        let (lines, time) = (line + 1, ends.max().unwrap_or(0));
        let (mut ids, mut positions, mut owners) =
            (vec![0; lines * time], vec![0; lines * time], vec![usize::MAX; lines * time]);
        for (row, ((line, start), (tokens, _))) in places.iter().zip(rows).enumerate() {
            let range = line * time + start..line * time + start + tokens.len();
            ids[range.clone()].copy_from_slice(tokens);
            owners[range.clone()].fill(row);
            positions[range].iter_mut().zip(0..).for_each(|(position, place)| *position = place);
        }
        let same = |line: usize, query: usize, key: usize| owners[line * time + query] == owners[line * time + key];
        let input = self.decoder.input([lines, time], &ids, &positions, same)?;
        let scored: Vec<i64> = places
            .iter()
            .zip(rows)
            .map(|((line, start), (ids, _))| (line * time + start + self.pooled(ids)) as i64)
            .collect();
        let device = self.decoder.device().inner();
        Ok((input, Tensor::from_data(TensorData::new(scored, [rows.len()]), &device)))
    }

    /// Index of the token whose hidden state is scored.
    fn pooled(&self, ids: &[u32]) -> usize {
        match self.decoder.config().pad_token_id {
            Some(pad) => ids.iter().rposition(|&id| id != pad).unwrap_or(0),
            None => ids.len() - 1,
        }
    }
}
