//! A reward model as something to train: its tensors by name, adapters, and gradients of its scores.
use std::sync::Arc;

use burn::tensor::{Device, FloatDType, Tensor};

use super::{Body, DECODER_HEAD, SequenceClassifier, check_rows};
use crate::{Adapter, Backward, Error, LoraConfig, Parameters, linear::Linear, lora::Target, precision::cast};

impl SequenceClassifier {
    /// Where the weights are.
    pub fn device(&self) -> Device {
        match &self.0 {
            Body::Decoder(model) => model.decoder.device().inner(),
            Body::Encoder(model) => model.device(),
        }
    }

    /// See [`Decoder::with_gradient_checkpointing`](crate::Decoder::with_gradient_checkpointing); encoders keep what
    /// they compute.
    #[must_use]
    pub fn with_gradient_checkpointing(mut self, enabled: bool) -> Self {
        if let Body::Decoder(model) = &mut self.0 {
            model.decoder = model.decoder.clone().with_gradient_checkpointing(enabled);
        }
        self
    }

    /// The padding token of a decoder whose configuration names none: the last token before it is scored.
    #[must_use]
    pub fn with_pad_token(mut self, pad: Option<u32>) -> Self {
        if let Body::Decoder(model) = &mut self.0
            && model.decoder.config.pad_token_id.is_none()
        {
            Arc::make_mut(&mut model.decoder.config).pad_token_id = pad;
        }
        self
    }

    /// All weights by Hugging Face name in f32, vectors as `[1, n]`.
    pub fn parameters(&self) -> Parameters {
        match &self.0 {
            Body::Decoder(model) => {
                let mut parameters = model.decoder.parameters();
                parameters.insert(DECODER_HEAD.into(), model.score.clone());
                parameters
            }
            Body::Encoder(model) => {
                let mut parameters = Parameters::new();
                model.clone().for_each_weight(|name, weight, _| {
                    parameters.insert(name.to_string(), cast(weight.clone(), FloatDType::F32));
                    None
                });
                parameters
            }
        }
    }

    /// Those of [`SequenceClassifier::parameters`] that make scores of [`SequenceClassifier::features`].
    pub fn head_parameters(&self) -> Parameters {
        let mut head = Parameters::new();
        match &self.0 {
            Body::Decoder(model) => head.insert(DECODER_HEAD.into(), model.score.clone()),
            Body::Encoder(model) => model.as_ref().clone().for_each_weight(|name, weight, _| {
                if model.is_of_head(name) {
                    head.insert(name.to_string(), weight.clone());
                }
                None
            }),
        }
        head
    }

    /// This model with the named weights replaced, others kept.
    #[must_use]
    pub fn with_parameters(&self, parameters: &Parameters) -> Self {
        let mut model = self.clone();
        match &mut model.0 {
            Body::Decoder(model) => {
                model.decoder = model.decoder.with_parameters(parameters);
                if let Some(score) = parameters.get(DECODER_HEAD) {
                    model.score = score.clone();
                }
            }
            Body::Encoder(model) => model.for_each_weight(|name, _, _| parameters.get(name).cloned()),
        }
        model
    }

    /// A new adapter for the body; see [`Adapter::new`].
    ///
    /// # Errors
    /// As [`Adapter::new`].
    pub fn new_adapter(&self, config: LoraConfig, seed: u64) -> Result<Adapter, Error> {
        match &self.0 {
            Body::Decoder(model) => Adapter::new(&model.decoder, config, seed),
            Body::Encoder(model) => {
                let linears: Vec<Target> =
                    model.linears().map(|linear| (linear.path.clone(), linear.shape())).collect();
                Adapter::of_linears(&linears, "", config, seed, &model.device())
            }
        }
    }

    /// Attaches an adapter's branches to the body; see [`Decoder::with_adapter`](crate::Decoder::with_adapter).
    ///
    /// # Errors
    /// [`Error::Adapter`] when a module is not in this model or has another shape.
    pub fn with_adapter(&self, adapter: &Adapter, dropout: f64) -> Result<Self, Error> {
        let mut classifier = self.clone();
        match &mut classifier.0 {
            Body::Decoder(model) => model.decoder = model.decoder.with_adapter(adapter, dropout)?,
            Body::Encoder(model) => {
                let has = |module: &str| self.linear_paths().iter().any(|path| path == module);
                if let Some(module) = adapter.modules().find(|module| !has(module)) {
                    return Err(adapter.error(format!("the model has no linear layer {module}")));
                }
                for linear in model.linears_mut() {
                    linear.lora = None;
                    adapter.attach(linear, dropout)?;
                }
            }
        }
        Ok(classifier)
    }

    /// Decides the masks of LoRA dropout: each is a function of `seed` and of its layer alone.
    #[must_use]
    pub fn with_dropout_seed(mut self, seed: u64) -> Self {
        match &mut self.0 {
            Body::Decoder(model) => model.decoder = model.decoder.clone().with_dropout_seed(seed),
            Body::Encoder(model) => {
                for (index, linear) in model.linears_mut().enumerate() {
                    if let Some(lora) = &mut linear.lora {
                        lora.seed = seed.wrapping_add(index as u64);
                    }
                }
            }
        }
        self
    }

    /// A plain model that computes what this one does: every LoRA branch folded into its layer.
    #[must_use]
    pub fn merged(&self) -> Self {
        let fold = |linear: &mut Linear| {
            linear.weight = linear.effective_weight().inner();
            linear.lora = None;
        };
        let mut model = self.clone();
        match &mut model.0 {
            Body::Decoder(model) => model.decoder = model.decoder.merged(),
            Body::Encoder(model) => model.linears_mut().for_each(fold),
        }
        model
    }

    /// The gradients of a scalar of the scores, `[rows, 1]`, of which `top` makes it together with anything else that
    /// the caller wants to know. Tracked are the tensors that came as leaves of an autodiff graph.
    ///
    /// # Errors
    /// As [`SequenceClassifier::typed_scores`], and those of `top`.
    pub fn backward<T, E: From<Error>>(
        &self,
        rows: &[(&[u32], &[u32])],
        top: impl FnOnce(Tensor<2>) -> Result<(T, Tensor<1>), E>,
    ) -> Result<(T, Backward), E> {
        check_rows(rows)?;
        match &self.0 {
            Body::Decoder(model) => {
                let (input, last) = model.batch(rows)?;
                model.decoder.backward(&input, |hidden| top(model.head(hidden.select(0, last))))
            }
            Body::Encoder(model) => {
                let (value, scalar) = top(model.head(model.features(rows)?))?;
                Ok((value, scalar.backward().into()))
            }
        }
    }

    /// Paths of the body's linear layers.
    pub(super) fn linear_paths(&self) -> Vec<String> {
        match &self.0 {
            Body::Decoder(model) => model.decoder.linear_paths(),
            Body::Encoder(model) => model.linears().map(|linear| linear.path.clone()).collect(),
        }
    }
}
