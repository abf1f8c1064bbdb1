//! Recipes of supervised runs.
use bpo_data::{BadLines, Truncation};
use bpo_model::Dtype;
use serde::{Deserialize, Serialize};

use super::{LrScheduler, Recipe};
use crate::Error;

/// Everything that decides a supervised fine-tuning run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SftRecipe {
    /// Model directory, or `embedded`; not needed with `model_config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A `config.json`: train a new model of that shape from random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_config: Option<String>,
    /// Tokenizer directory; the model's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// `auto`, `float32` or `bfloat16`: what frozen weights are kept in.
    pub dtype: Dtype,
    /// Texts: `prompt` and `completion`, `messages`, or `text`.
    pub data: String,
    /// `stop` or `skip`: what happens to rows of data files that cannot be read.
    pub bad_lines: BadLines,
    /// Decides every random choice.
    pub seed: u64,
    /// Whether the loss covers the prompt too.
    pub train_on_prompt: bool,
    /// Longest row; a longer one is treated as `truncation` says.
    pub max_length: usize,
    /// `drop`, `left_prompt`, `right_completion` or `error`.
    pub truncation: Truncation,
    /// Steps; 0 means `num_train_epochs` decides.
    pub max_steps: u64,
    /// Passes over the data.
    pub num_train_epochs: f64,
    /// Rows per forward and backward.
    pub per_device_train_batch_size: usize,
    /// Compute layers twice instead of keeping what they computed for the backward pass: less memory, more time.
    pub gradient_checkpointing: bool,
    /// Micro-batches per step.
    pub gradient_accumulation_steps: usize,
    /// Train LoRA branches (true) or all weights (false).
    pub use_peft: bool,
    /// Rank.
    pub lora_r: usize,
    /// Scaling is `lora_alpha / lora_r`.
    pub lora_alpha: f64,
    /// Share of the branches' inputs zeroed in training.
    pub lora_dropout: f64,
    /// Suffixes of layer names, or `["all-linear"]`.
    pub lora_target_modules: Vec<String>,
    /// Peak learning rate.
    pub learning_rate: f64,
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

impl Default for SftRecipe {
    fn default() -> Self {
        let base = Recipe::default();
        Self {
            model: None,
            model_config: None,
            tokenizer: None,
            dtype: base.dtype,
            data: String::new(),
            bad_lines: base.bad_lines,
            seed: base.seed,
            train_on_prompt: false,
            max_length: 1024,
            truncation: Truncation::Drop,
            max_steps: 0,
            num_train_epochs: 1.0,
            per_device_train_batch_size: 8,
            gradient_checkpointing: base.gradient_checkpointing,
            gradient_accumulation_steps: 1,
            use_peft: true,
            lora_r: base.lora_r,
            lora_alpha: base.lora_alpha,
            lora_dropout: base.lora_dropout,
            lora_target_modules: base.lora_target_modules,
            learning_rate: 2e-4,
            lr_scheduler_type: LrScheduler::Linear,
            warmup_ratio: 0.0,
            weight_decay: 0.0,
            adam_beta2: 0.999,
            max_grad_norm: 1.0,
            save_steps: 100,
        }
    }
}

impl SftRecipe {
    /// Checks what no type can.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the key.
    pub fn validate(&self) -> Result<(), Error> {
        if self.model.is_some() == self.model_config.is_some() {
            return Err(Error::Recipe("give either model or model_config".into()));
        }
        if self.model_config.is_some() && (self.use_peft || self.tokenizer.is_none()) {
            return Err(Error::Recipe("model_config needs use_peft = false and a tokenizer".into()));
        }
        if self.model_config.is_some() && self.dtype == Dtype::Bfloat16 {
            return Err(Error::Recipe(
                "dtype = \"bfloat16\" is for weights that are read; a new model is float32".into(),
            ));
        }
        if self.data.is_empty() {
            return Err(Error::Recipe("data is missing: the texts to train on".into()));
        }
        if self.per_device_train_batch_size * self.gradient_accumulation_steps == 0 || self.save_steps == 0 {
            return Err(Error::Recipe("batch sizes and save_steps must be at least 1".into()));
        }
        self.as_recipe().check_numbers()
    }

    /// The keys that both kinds of run share, as a [`Recipe`].
    pub(crate) fn as_recipe(&self) -> Recipe {
        Recipe {
            dtype: self.dtype,
            bad_lines: self.bad_lines,
            seed: self.seed,
            max_steps: self.max_steps,
            num_train_epochs: self.num_train_epochs,
            per_device_train_batch_size: self.per_device_train_batch_size,
            gradient_checkpointing: self.gradient_checkpointing,
            gradient_accumulation_steps: self.gradient_accumulation_steps,
            use_peft: self.use_peft,
            lora_r: self.lora_r,
            lora_alpha: self.lora_alpha,
            lora_dropout: self.lora_dropout,
            lora_target_modules: self.lora_target_modules.clone(),
            learning_rate: self.learning_rate,
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
