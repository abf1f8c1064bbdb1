//! Recipes of reward models.
use bpo_data::BadLines;
use bpo_model::Dtype;
use serde::{Deserialize, Serialize};

use super::{LrScheduler, Recipe};
use crate::Error;

/// What of a reward model is trained; its head always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tuning {
    /// The head alone: the body runs once, on every text.
    Head,
    /// LoRA branches of the body.
    #[default]
    Lora,
    /// All weights.
    Full,
}

/// Everything that decides the training of a reward model. Keys are TRL's where its `RewardTrainer` has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardRecipe {
    /// A reward model, an encoder or a language model; a head that is not there is made.
    pub model: String,
    /// Tokenizer directory; the model's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// `auto`, `float32` or `bfloat16`: what frozen weights of decoders are kept in.
    pub dtype: Dtype,
    /// Preference pairs, with a `margin` where rows have one.
    pub pairs: String,
    /// Held-out pairs; without them a share of `pairs` is held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_pairs: Option<String>,
    /// Share of the prompts held out; 0 for none.
    pub eval_share: f64,
    /// `stop` or `skip`: what happens to rows of data files that cannot be read.
    pub bad_lines: BadLines,
    /// Decides every random choice.
    pub seed: u64,
    /// Longest text with its prompt, in tokens; a longer one loses the beginning of its prompt.
    pub max_length: usize,
    /// `head`, `lora` or `full`.
    pub tuning: Tuning,
    /// Pulls the scores of a pair towards a mean of 0.
    pub center_rewards_coefficient: f64,
    /// Steps; 0 means `num_train_epochs` decides.
    pub max_steps: u64,
    /// Passes over the pairs.
    pub num_train_epochs: f64,
    /// Pairs per forward and backward.
    pub per_device_train_batch_size: usize,
    /// Compute layers twice instead of keeping what they computed for the backward pass; for decoders.
    pub gradient_checkpointing: bool,
    /// Micro-batches per step.
    pub gradient_accumulation_steps: usize,
    /// Rank.
    pub lora_r: usize,
    /// Scaling is `lora_alpha / lora_r`.
    pub lora_alpha: f64,
    /// Share of the branches' inputs zeroed in training.
    pub lora_dropout: f64,
    /// Suffixes of layer names, or `["all-linear"]`.
    pub lora_target_modules: Vec<String>,
    /// Peak learning rate; by `tuning` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Its course.
    pub lr_scheduler_type: LrScheduler,
    /// Share of the steps spent warming up.
    pub warmup_ratio: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// AdamW's β₂.
    pub adam_beta2: f64,
    /// Largest global gradient norm; 0 does not clip.
    pub max_grad_norm: f64,
    /// Steps between checkpoints.
    pub save_steps: u64,
}

impl Default for RewardRecipe {
    fn default() -> Self {
        let base = Recipe::default();
        Self {
            model: String::new(),
            tokenizer: None,
            dtype: base.dtype,
            pairs: String::new(),
            eval_pairs: None,
            eval_share: 0.1,
            bad_lines: base.bad_lines,
            seed: base.seed,
            max_length: 512,
            tuning: Tuning::default(),
            center_rewards_coefficient: 0.0,
            max_steps: 0,
            num_train_epochs: 1.0,
            per_device_train_batch_size: 8,
            gradient_checkpointing: false,
            gradient_accumulation_steps: 2,
            lora_r: base.lora_r,
            lora_alpha: base.lora_alpha,
            lora_dropout: base.lora_dropout,
            lora_target_modules: base.lora_target_modules,
            learning_rate: None,
            lr_scheduler_type: LrScheduler::Linear,
            warmup_ratio: 0.1,
            weight_decay: 0.0,
            adam_beta2: 0.999,
            max_grad_norm: 1.0,
            save_steps: 50,
        }
    }
}

impl RewardRecipe {
    /// Checks what no type can.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the key.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Recipe(reason.into()));
        if self.model.is_empty() {
            return refuse("model is missing: a Hugging Face directory of an encoder or a decoder");
        }
        if self.pairs.is_empty() {
            return refuse("pairs is missing: the preference pairs to train on");
        }
        if self.per_device_train_batch_size * self.gradient_accumulation_steps == 0 || self.save_steps == 0 {
            return refuse("batch sizes and save_steps must be at least 1");
        }
        if !(0.0..1.0).contains(&self.eval_share) {
            return refuse("eval_share must be at least 0 and below 1");
        }
        if self.max_length < 8 {
            return refuse("max_length must be at least 8 tokens");
        }
        if !(self.center_rewards_coefficient >= 0.0 && self.center_rewards_coefficient.is_finite()) {
            return refuse("center_rewards_coefficient must be 0 or more");
        }
        if self.gradient_checkpointing && self.tuning == Tuning::Head {
            return refuse(
                "gradient_checkpointing has no effect: tuning = \"head\" has no backward pass through the body",
            );
        }
        self.as_recipe().check_numbers()
    }

    /// Peak learning rate.
    pub fn peak(&self) -> f64 {
        self.learning_rate.unwrap_or(match self.tuning {
            Tuning::Head => 1e-3,
            Tuning::Lora => 3e-4,
            Tuning::Full => 5e-5,
        })
    }

    /// The keys that all kinds of run share, as a [`Recipe`].
    pub(crate) fn as_recipe(&self) -> Recipe {
        Recipe {
            seed: self.seed,
            max_steps: self.max_steps,
            num_train_epochs: self.num_train_epochs,
            per_device_train_batch_size: self.per_device_train_batch_size,
            gradient_accumulation_steps: self.gradient_accumulation_steps,
            use_peft: self.tuning == Tuning::Lora,
            lora_r: self.lora_r,
            lora_alpha: self.lora_alpha,
            lora_dropout: self.lora_dropout,
            lora_target_modules: self.lora_target_modules.clone(),
            learning_rate: self.peak(),
            lr_scheduler_type: self.lr_scheduler_type,
            warmup_ratio: self.warmup_ratio,
            weight_decay: self.weight_decay,
            adam_beta2: self.adam_beta2,
            max_grad_norm: self.max_grad_norm,
            save_steps: self.save_steps,
            ..Recipe::default()
        }
    }
}
