use bpo_model::{Adapter, Decoder, Error as ModelError, Parameters};

/// What is trained: the branches of an adapter on a frozen base, or all of a model's weights.
/// A clone is a snapshot: it shares its tensors until they are replaced by an update.
#[derive(Debug, Clone)]
pub enum Trainable {
    /// LoRA.
    Lora(Adapter),
    /// Full fine-tuning.
    Full(Parameters),
}

impl Trainable {
    /// The tensors an optimiser updates.
    pub fn parameters(&self) -> &Parameters {
        match self {
            Self::Lora(adapter) => adapter.weights(),
            Self::Full(parameters) => parameters,
        }
    }

    /// The same kind with other values.
    #[must_use]
    pub fn with_parameters(&self, parameters: Parameters) -> Self {
        match self {
            Self::Lora(adapter) => Self::Lora(adapter.with_weights(parameters)),
            Self::Full(_) => Self::Full(parameters),
        }
    }

    /// The model with these values, on `base`'s frozen rest.
    ///
    /// # Errors
    /// [`bpo_model::Error::Adapter`] when an adapter does not fit the base.
    pub fn model(&self, base: &Decoder) -> Result<Decoder, ModelError> {
        match self {
            Self::Lora(adapter) => base.with_adapter(adapter, 0.0),
            Self::Full(parameters) => Ok(base.with_parameters(parameters)),
        }
    }

    /// The model with these values as leaves of an autodiff graph, and those leaves. LoRA dropout acts.
    ///
    /// # Errors
    /// As [`Trainable::model`].
    pub fn tracked(&self, base: &Decoder) -> Result<(Decoder, Parameters), ModelError> {
        let leaves = self.parameters().tracked();
        let model = match self {
            Self::Lora(adapter) => {
                base.with_adapter(&adapter.with_weights(leaves.clone()), adapter.config.lora_dropout)?
            }
            Self::Full(_) => base.with_parameters(&leaves),
        };
        Ok((model, leaves))
    }

    /// Whether scoring in training is random (LoRA dropout).
    pub fn has_dropout(&self) -> bool {
        matches!(self, Self::Lora(adapter) if adapter.config.lora_dropout > 0.0)
    }
}
