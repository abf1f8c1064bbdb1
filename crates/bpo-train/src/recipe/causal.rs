//! Recipes of causal preference optimisation.
use bpo_annotate::AnnotatorConfig;
use bpo_data::{BadLines, Truncation};
use bpo_loss::Importance;
use bpo_model::Dtype;
use serde::{Deserialize, Serialize};

use super::{EvalStrategy, LrScheduler, OneOrMany, Recipe};
use crate::Error;

/// How the value of the policy is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CausalEstimator {
    /// Inverse propensity weighting of the logged outcomes ("CPO").
    Ipw,
    /// Doubly robust: their residuals weighted, plus what an outcome model expects of samples ("DR-CPO").
    Dr,
}

/// Whose estimator it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CausalForm {
    /// The definition: ratios of the texts' probabilities.
    Textbook,
    /// What the authors' code computes: batch softmaxes of raw-logit scores ([`bpo_loss::OfficialCausal`]).
    Official,
}

/// Everything that decides a run of causal preference optimisation (Lin et al. 2024, arXiv:2402.14979): texts with
/// numeric outcomes instead of preferences. Keys that [`Recipe`] has mean the same here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CausalRecipe {
    /// Model directory, or `embedded`. It is the logging policy P^R too, unless rows say `logging_logp`.
    pub model: String,
    /// Tokenizer directory; the model's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// PEFT adapter to start from instead of a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// `auto`, `float32` or `bfloat16`: what frozen weights are kept in.
    pub dtype: Dtype,
    /// Texts with outcomes: `outcome` with `completion`, `response` or `text`, after an optional `prompt`.
    pub outcomes: String,
    /// Held-out prompts with reference texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub references: Option<String>,
    /// `stop` or `skip`: what happens to rows of data files that cannot be read.
    pub bad_lines: BadLines,
    /// Put a prompt that is plain text to the model as a user's message, by its chat template.
    pub apply_chat_template: bool,
    /// Who scores in evaluation; with `dr` also the outcome model ĝ.
    pub annotator: AnnotatorConfig,
    /// Decides every random choice.
    pub seed: u64,

    /// `ipw` or `dr`.
    pub causal_estimator: CausalEstimator,
    /// `textbook` or `official`.
    pub causal_form: CausalForm,
    /// Divide the ratios of a step by their mean (`textbook` only).
    pub self_normalised: bool,
    /// Smallest and largest ratio; the authors' `--stabilize` is `[0.8, 1.2]` with `official`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_clip: Option<[f64; 2]>,
    /// Raise the outcome (true) or lower it.
    pub higher_outcome_better: bool,
    /// Outcomes minus their mean, by their standard deviation; predicted ones alike.
    pub standardise_outcomes: bool,
    /// Weight of the logged texts' term (`official` only).
    pub c_ipw: f64,
    /// Weight of the outcome model's term (`official` only).
    pub c_rlhf: f64,
    /// With `dr`: completions sampled per prompt of a step for the outcome model's term.
    pub samples_per_prompt: usize,

    /// Steps; 0 means `num_train_epochs` decides.
    pub max_steps: u64,
    /// Passes over the texts.
    pub num_train_epochs: f64,
    /// Texts per forward and backward.
    pub per_device_train_batch_size: usize,
    /// Compute layers twice instead of keeping what they computed for the backward pass: less memory, more time.
    pub gradient_checkpointing: bool,
    /// Micro-batches per step; estimates are over the texts of all of them together.
    pub gradient_accumulation_steps: usize,

    /// Sampled completions are cut after this many tokens.
    pub max_new_tokens: usize,
    /// Longest prompt; a longer one is treated as `truncation` says.
    pub max_prompt_length: usize,
    /// `drop`, `left_prompt`, `right_completion` or `error`.
    pub truncation: Truncation,

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
    /// Scaling is `lora_alpha / √lora_r`.
    pub use_rslora: bool,

    /// Peak learning rate.
    pub learning_rate: f64,
    /// Its course.
    pub lr_scheduler_type: LrScheduler,
    /// Share of the steps spent warming up.
    pub warmup_ratio: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// AdamW's β₁.
    pub adam_beta1: f64,
    /// AdamW's β₂.
    pub adam_beta2: f64,
    /// AdamW's ε.
    pub adam_epsilon: f64,
    /// Largest global gradient norm; 0 does not clip.
    pub max_grad_norm: f64,

    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Held-out prompts to evaluate on, 0 for none.
    pub eval_size: usize,
    /// Completions decoded together, in evaluation and in training: bounds the memory of their keys and values.
    pub per_device_eval_batch_size: usize,
    /// Temperature of evaluation; 0 is greedy.
    pub eval_temperature: f64,
    /// When to evaluate between the start and the end: `no`, or `steps` (every `eval_steps`).
    pub eval_strategy: EvalStrategy,
    /// Steps between evaluations; 0 evaluates at the start and at the end only.
    pub eval_steps: u64,
}

impl Default for CausalRecipe {
    fn default() -> Self {
        let base = Recipe::default();
        Self {
            model: base.model,
            tokenizer: None,
            adapter: None,
            dtype: base.dtype,
            outcomes: "embedded".into(),
            references: None,
            bad_lines: base.bad_lines,
            apply_chat_template: base.apply_chat_template,
            annotator: base.annotator,
            seed: base.seed,
            causal_estimator: CausalEstimator::Ipw,
            causal_form: CausalForm::Textbook,
            self_normalised: false,
            ratio_clip: None,
            higher_outcome_better: true,
            standardise_outcomes: true,
            c_ipw: 1.0,
            c_rlhf: 1.0,
            samples_per_prompt: 1,
            max_steps: base.max_steps,
            num_train_epochs: base.num_train_epochs,
            per_device_train_batch_size: 16,
            gradient_checkpointing: base.gradient_checkpointing,
            gradient_accumulation_steps: base.gradient_accumulation_steps,
            max_new_tokens: base.max_new_tokens,
            max_prompt_length: base.max_prompt_length,
            truncation: base.truncation,
            use_peft: base.use_peft,
            lora_r: base.lora_r,
            lora_alpha: base.lora_alpha,
            lora_dropout: 0.0,
            lora_target_modules: base.lora_target_modules,
            use_rslora: base.use_rslora,
            learning_rate: base.learning_rate,
            lr_scheduler_type: base.lr_scheduler_type,
            warmup_ratio: base.warmup_ratio,
            weight_decay: base.weight_decay,
            adam_beta1: base.adam_beta1,
            adam_beta2: base.adam_beta2,
            adam_epsilon: base.adam_epsilon,
            max_grad_norm: base.max_grad_norm,
            save_steps: base.save_steps,
            eval_size: base.eval_size,
            per_device_eval_batch_size: base.per_device_eval_batch_size,
            eval_temperature: base.eval_temperature,
            eval_strategy: base.eval_strategy,
            eval_steps: base.eval_steps,
        }
    }
}

impl CausalRecipe {
    /// Checks what no type can.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the key, or [`Error::Loss`] for `ratio_clip`.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Recipe(reason.into()));
        self.importance().validate()?;
        if self.outcomes.is_empty() {
            return refuse("outcomes is missing: the texts to train on");
        }
        if self.eval_strategy == EvalStrategy::Phase {
            return refuse(
                "eval_strategy = \"phase\" needs phases of data collection, and a run on outcomes has none; give \"steps\" \
                 with eval_steps",
            );
        }
        if self.samples_per_prompt == 0 {
            return refuse("samples_per_prompt must be at least 1");
        }
        if let Some((key, value)) = [("c_ipw", self.c_ipw), ("c_rlhf", self.c_rlhf)].iter().find(|c| !c.1.is_finite()) {
            return refuse(&format!("{key} = {value} must be a finite number"));
        }
        match self.causal_form {
            CausalForm::Official => self.check_official()?,
            CausalForm::Textbook if [self.c_ipw, self.c_rlhf] != [1.0; 2] => {
                return refuse("c_ipw and c_rlhf have no effect with causal_form = \"textbook\"");
            }
            CausalForm::Textbook => {}
        }
        self.as_recipe().validate()
    }

    fn check_official(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Recipe(reason.into()));
        if self.per_device_train_batch_size < 2 {
            return refuse(
                "per_device_train_batch_size = 1: the official form's weights are a softmax over the batch, of one \
                 text always 1, and the gradient 0; give at least 2",
            );
        }
        if self.self_normalised {
            return refuse("self_normalised has no effect with causal_form = \"official\", which always is");
        }
        if self.causal_estimator == CausalEstimator::Dr && self.samples_per_prompt != 1 {
            return refuse("samples_per_prompt: the official form pairs every text with 1 other");
        }
        Ok(())
    }

    /// What is made of the ratios.
    pub fn importance(&self) -> Importance {
        Importance { self_normalised: self.self_normalised, ratio_clip: self.ratio_clip }
    }

    /// The keys that both kinds of run share, as a [`Recipe`].
    pub(crate) fn as_recipe(&self) -> Recipe {
        Recipe {
            model: self.model.clone(),
            tokenizer: self.tokenizer.clone(),
            adapter: self.adapter.clone().map(OneOrMany::One),
            references: self.references.clone(),
            bad_lines: self.bad_lines,
            dtype: self.dtype,
            apply_chat_template: self.apply_chat_template,
            annotator: self.annotator.clone(),
            seed: self.seed,
            max_steps: self.max_steps,
            num_train_epochs: self.num_train_epochs,
            per_device_train_batch_size: self.per_device_train_batch_size,
            gradient_checkpointing: self.gradient_checkpointing,
            gradient_accumulation_steps: self.gradient_accumulation_steps,
            max_new_tokens: self.max_new_tokens,
            max_prompt_length: self.max_prompt_length,
            truncation: self.truncation,
            use_peft: self.use_peft,
            lora_r: self.lora_r,
            lora_alpha: self.lora_alpha,
            lora_dropout: self.lora_dropout,
            lora_target_modules: self.lora_target_modules.clone(),
            use_rslora: self.use_rslora,
            learning_rate: self.learning_rate,
            lr_scheduler_type: self.lr_scheduler_type,
            warmup_ratio: self.warmup_ratio,
            weight_decay: self.weight_decay,
            adam_beta1: self.adam_beta1,
            adam_beta2: self.adam_beta2,
            adam_epsilon: self.adam_epsilon,
            max_grad_norm: self.max_grad_norm,
            save_steps: self.save_steps,
            eval_size: self.eval_size,
            per_device_eval_batch_size: self.per_device_eval_batch_size,
            eval_temperature: self.eval_temperature,
            eval_strategy: self.eval_strategy,
            eval_steps: self.eval_steps,
            ..Recipe::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document is the reference: a key that it does not name is a key that nobody finds.
    #[test]
    fn every_key_is_documented() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/recipe.md");
        let document = std::fs::read_to_string(path).unwrap();
        let recipe = CausalRecipe {
            tokenizer: Some(String::new()),
            adapter: Some(String::new()),
            references: Some(String::new()),
            ratio_clip: Some([0.0, 1.0]),
            ..CausalRecipe::default()
        };
        for key in serde_json::to_value(recipe).unwrap().as_object().unwrap().keys() {
            assert!(document.contains(&format!("`{key}`")), "docs/recipe.md does not name `{key}`");
        }
    }

    #[test]
    fn what_has_no_effect_or_cannot_work_is_refused_by_its_key() {
        let official = CausalRecipe { causal_form: CausalForm::Official, ..CausalRecipe::default() };
        let cases = [
            (CausalRecipe { outcomes: String::new(), ..CausalRecipe::default() }, "outcomes"),
            (CausalRecipe { ratio_clip: Some([2.0, 1.0]), ..CausalRecipe::default() }, "ratio_clip"),
            (CausalRecipe { samples_per_prompt: 0, ..CausalRecipe::default() }, "samples_per_prompt"),
            (CausalRecipe { eval_strategy: EvalStrategy::Phase, ..CausalRecipe::default() }, "eval_strategy"),
            (CausalRecipe { eval_strategy: EvalStrategy::No, eval_steps: 5, ..CausalRecipe::default() }, "eval_steps"),
            (CausalRecipe { c_ipw: 0.5, ..CausalRecipe::default() }, "c_ipw"),
            (CausalRecipe { learning_rate: f64::NAN, ..CausalRecipe::default() }, "learning_rate"),
            (CausalRecipe { per_device_train_batch_size: 1, ..official.clone() }, "per_device_train_batch_size"),
            (CausalRecipe { self_normalised: true, ..official.clone() }, "self_normalised"),
            (CausalRecipe { c_rlhf: f64::INFINITY, ..official.clone() }, "c_rlhf"),
        ];
        for (recipe, key) in cases {
            let refused = recipe.validate().unwrap_err().to_string();
            assert!(refused.contains(key), "{key}: {refused}");
        }
        official.validate().unwrap();
        CausalRecipe::default().validate().unwrap();
    }
}
