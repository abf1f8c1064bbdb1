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

    /// As [`Trainable::model`], with LoRA dropout acting as in training: seeded alike, it has the masks of the training
    /// pass.
    ///
    /// # Errors
    /// As [`Trainable::model`].
    pub fn in_training(&self, base: &Decoder) -> Result<Decoder, ModelError> {
        match self {
            Self::Lora(adapter) => base.with_adapter(adapter, adapter.config.lora_dropout),
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

    /// The adapter, where that is what is trained.
    pub fn adapter(&self) -> Option<&Adapter> {
        match self {
            Self::Lora(adapter) => Some(adapter),
            Self::Full(_) => None,
        }
    }

    /// These values moved by `share` of the way to `target`'s, number by number: `(1 − share)·self + share·target`.
    ///
    /// Of an adapter the factors are averaged, not their product: the move keeps the rank, is exact at shares 0 and 1
    /// and for equal adapters, and in between differs from the mean of the products by `share·(1 − share)·ΔB·ΔA`,
    /// second order in the distance moved.
    #[must_use]
    pub fn moved_towards(&self, target: &Self, share: f64) -> Self {
        let target = target.parameters();
        self.with_parameters(self.parameters().map(|name, value| match target.get(name) {
            Some(goal) => value * (1.0 - share) + goal.clone() * share,
            None => value,
        }))
    }

    /// Whether scoring in training is random (LoRA dropout).
    pub fn has_dropout(&self) -> bool {
        matches!(self, Self::Lora(adapter) if adapter.config.lora_dropout > 0.0)
    }
}
