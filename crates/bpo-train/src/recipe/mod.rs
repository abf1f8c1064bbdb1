//! Recipes of preference runs.
mod causal;
mod sft;

pub use causal::{CausalEstimator, CausalForm, CausalRecipe};
pub use sft::SftRecipe;

use bpo_annotate::AnnotatorConfig;
use bpo_data::{Limits, Truncation};
use bpo_loss::{LossType, Objective};
use bpo_model::LoraConfig;
use bpo_sampler::Sampling;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{AdamWConfig, Error, LearningRate};

/// How often training data is collected with a fresh behaviour policy: the paper's F.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectionPhases {
    /// F phases; 1 is offline.
    Count(u64),
    /// F = T: a refresh before every step.
    EveryStep,
}

impl<'de> Deserialize<'de> for CollectionPhases {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Count(u64),
            Text(String),
        }
        match Written::deserialize(deserializer) {
            Ok(Written::Count(count)) if count > 0 => Ok(Self::Count(count)),
            Ok(Written::Text(text)) if text == "T" => Ok(Self::EveryStep),
            _ => Err(serde::de::Error::custom("collection_phases must be a whole number from 1 or \"T\"")),
        }
    }
}

impl Serialize for CollectionPhases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::EveryStep => serializer.serialize_str("T"),
        }
    }
}

/// What the policy is measured against in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// The behaviour policy, which sampled the pair: this makes it BPO.
    Behaviour,
    /// The policy the run started from: online DPO.
    Initial,
}

/// Course of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrScheduler {
    /// Stays at its peak.
    Constant,
    /// Falls linearly to 0.
    Linear,
    /// Falls to 0 along half a cosine.
    Cosine,
}

/// Everything that decides a preference-optimisation run. Keys are TRL's where TRL has them; an
/// unknown key is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Model directory, or `embedded`.
    pub model: String,
    /// Tokenizer directory; the model's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// PEFT adapter to start from instead of a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Prompts to sample from.
    pub prompts: String,
    /// Held-out prompts with reference texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub references: Option<String>,
    /// Put a prompt that is plain text to the model as a user's message, by its chat template. A trailing
    /// `Assistant:` is taken off: the template says whose turn it is.
    pub apply_chat_template: bool,
    /// Who prefers.
    pub annotator: AnnotatorConfig,
    /// Decides every random choice.
    pub seed: u64,

    /// `sigmoid` (DPO), `hinge` (SLiC) or `ipo`.
    pub loss_type: String,
    /// Strength of the pull towards the reference.
    pub beta: f64,
    /// Assumed share of flipped labels.
    pub label_smoothing: f64,
    /// IPO on length-averaged log-probs.
    pub ipo_length_norm: bool,
    /// Score subtracted from completions cut before EOS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_eos_penalty: Option<f64>,

    /// The paper's F.
    pub collection_phases: CollectionPhases,
    /// What the loss measures against.
    pub reference: Reference,

    /// Steps; 0 means `num_train_epochs` decides.
    pub max_steps: u64,
    /// Passes over the prompts.
    pub num_train_epochs: f64,
    /// Pairs per forward and backward.
    pub per_device_train_batch_size: usize,
    /// Micro-batches per step: a step samples `per_device_train_batch_size` times this many prompts.
    pub gradient_accumulation_steps: usize,
    /// Completions sampled per prompt; a pair needs two.
    pub samples_per_prompt: usize,

    /// Completions are cut after this many tokens.
    pub max_new_tokens: usize,
    /// Longest prompt; a longer one is treated as `truncation` says.
    pub max_prompt_length: usize,
    /// `drop`, `left_prompt`, `right_completion` or `error`.
    pub truncation: Truncation,
    /// 1 is ancestral sampling.
    pub temperature: f64,
    /// 0 keeps all.
    pub top_k: usize,
    /// 1 keeps all.
    pub top_p: f64,
    /// 0 keeps all.
    pub min_p: f64,

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
    /// Prompts sampled at once, in evaluation and in training.
    pub per_device_eval_batch_size: usize,
    /// Temperature of evaluation; 0 is greedy.
    pub eval_temperature: f64,
}

impl Default for Recipe {
    fn default() -> Self {
        let (lora, objective, adam) = (LoraConfig::default(), Objective::default(), AdamWConfig::default());
        Self {
            model: "embedded".into(),
            tokenizer: None,
            adapter: None,
            prompts: "embedded".into(),
            references: None,
            apply_chat_template: false,
            annotator: bpo_annotate::AnnotatorConfig {
                kind: bpo_annotate::AnnotatorKind::Lexicon(bpo_annotate::LexiconConfig::default()),
                both_orders: false,
            },
            seed: 42,
            loss_type: objective.loss_type.to_string(),
            beta: objective.beta,
            label_smoothing: objective.label_smoothing,
            ipo_length_norm: objective.ipo_length_norm,
            missing_eos_penalty: None,
            collection_phases: CollectionPhases::Count(2),
            reference: Reference::Behaviour,
            max_steps: 0,
            num_train_epochs: 1.0,
            per_device_train_batch_size: 8,
            gradient_accumulation_steps: 1,
            samples_per_prompt: 2,
            max_new_tokens: 64,
            max_prompt_length: 512,
            truncation: Truncation::Drop,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            use_peft: true,
            lora_r: lora.r,
            lora_alpha: lora.lora_alpha,
            lora_dropout: lora.lora_dropout,
            lora_target_modules: lora.target_modules,
            use_rslora: false,
            learning_rate: 5e-6,
            lr_scheduler_type: LrScheduler::Linear,
            warmup_ratio: 0.0,
            weight_decay: adam.weight_decay,
            adam_beta1: adam.beta1,
            adam_beta2: adam.beta2,
            adam_epsilon: adam.epsilon,
            max_grad_norm: 1.0,
            save_steps: 10,
            eval_size: 64,
            per_device_eval_batch_size: 32,
            eval_temperature: 1.0,
        }
    }
}

impl Recipe {
    /// Checks what no type can.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the key.
    pub fn validate(&self) -> Result<(), Error> {
        self.objective()?;
        self.sampling(self.temperature).validate()?;
        self.sampling(self.eval_temperature).validate()?;
        let positive = [
            ("per_device_train_batch_size", self.per_device_train_batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size),
            ("max_new_tokens", self.max_new_tokens),
            ("max_prompt_length", self.max_prompt_length),
            ("lora_r", self.lora_r),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::Recipe(format!("{key} must be at least 1")));
        }
        if self.samples_per_prompt != 2 {
            return Err(Error::Recipe(format!("samples_per_prompt = {}: a pair needs 2", self.samples_per_prompt)));
        }
        if self.max_steps == 0 && self.num_train_epochs <= 0.0 {
            return Err(Error::Recipe("max_steps and num_train_epochs are both 0: nothing to do".into()));
        }
        if let Some(penalty) = self.missing_eos_penalty.filter(|penalty| !penalty.is_finite()) {
            return Err(Error::Recipe(format!("missing_eos_penalty = {penalty} must be a finite number")));
        }
        if self.learning_rate > 1.0 {
            let rate = self.learning_rate;
            return Err(Error::Recipe(format!("learning_rate = {rate}: above 1 every weight is lost in one step")));
        }
        if self.temperature == 0.0 {
            return Err(Error::Recipe("temperature = 0 samples the same completion twice: no pair".into()));
        }
        if self.save_steps == 0 {
            return Err(Error::Recipe("save_steps must be at least 1".into()));
        }
        if !self.use_peft && self.adapter.is_some() {
            return Err(Error::Recipe("adapter has no effect with use_peft = false".into()));
        }
        self.check_numbers()
    }

    fn check_numbers(&self) -> Result<(), Error> {
        let at_least_zero = [
            ("learning_rate", self.learning_rate),
            ("weight_decay", self.weight_decay),
            ("max_grad_norm", self.max_grad_norm),
            ("num_train_epochs", self.num_train_epochs),
            ("adam_epsilon", self.adam_epsilon),
        ];
        if let Some((key, value)) = at_least_zero.into_iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return Err(Error::Recipe(format!("{key} = {value} must be a finite number, 0 or above")));
        }
        let shares = [
            ("lora_dropout", self.lora_dropout),
            ("warmup_ratio", self.warmup_ratio),
            ("adam_beta1", self.adam_beta1),
            ("adam_beta2", self.adam_beta2),
        ];
        match shares.into_iter().find(|(_, share)| !(0.0..1.0).contains(share)) {
            Some((key, value)) => Err(Error::Recipe(format!("{key} = {value} must lie in [0, 1)"))),
            None => Ok(()),
        }
    }

    /// The loss.
    ///
    /// # Errors
    /// [`Error::Recipe`] for an unknown `loss_type`, [`Error::Loss`] for a bad hyper-parameter.
    pub fn objective(&self) -> Result<Objective, Error> {
        let objective = Objective {
            loss_type: self.loss_type.parse::<LossType>().map_err(Error::Recipe)?,
            beta: self.beta,
            label_smoothing: self.label_smoothing,
            ipo_length_norm: self.ipo_length_norm,
        };
        objective.validate()?;
        Ok(objective)
    }

    /// How tokens are chosen at `temperature`.
    pub fn sampling(&self, temperature: f64) -> Sampling {
        if temperature == 0.0 {
            return Sampling::greedy();
        }
        Sampling { temperature, top_k: self.top_k, top_p: self.top_p, min_p: self.min_p }
    }

    /// A new adapter's shape.
    pub fn lora(&self) -> LoraConfig {
        LoraConfig {
            r: self.lora_r,
            lora_alpha: self.lora_alpha,
            lora_dropout: self.lora_dropout,
            target_modules: self.lora_target_modules.clone(),
            use_rslora: self.use_rslora,
            alpha_pattern: Vec::new(),
        }
    }

    /// The optimiser.
    pub fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            epsilon: self.adam_epsilon,
            weight_decay: self.weight_decay,
            max_grad_norm: self.max_grad_norm,
        }
    }

    /// Prompts, and so pairs at most, per step.
    pub fn prompts_per_step(&self) -> usize {
        self.per_device_train_batch_size * self.gradient_accumulation_steps
    }

    /// T, for `prompts` training prompts.
    pub fn steps(&self, prompts: usize) -> u64 {
        steps(self.max_steps, self.num_train_epochs, prompts, self.prompts_per_step())
    }

    /// The learning rate over `total` steps.
    pub fn rate(&self, total: u64) -> LearningRate {
        rate(self.learning_rate, self.lr_scheduler_type, self.warmup_ratio, total)
    }

    /// Prompt limits; `context` is the model's.
    ///
    /// # Errors
    /// [`Error::Recipe`] when completions alone fill the context.
    pub fn limits(&self, context: usize) -> Result<Limits, Error> {
        let new = self.max_new_tokens;
        if new >= context {
            let reason =
                format!("max_new_tokens = {new} leaves no room for a prompt in the model's context of {context}");
            return Err(Error::Recipe(reason));
        }
        Ok(Limits {
            max_prompt_length: Some(self.max_prompt_length.min(context - new)),
            max_length: Some(context),
            truncation: self.truncation,
        })
    }
}

fn steps(max_steps: u64, epochs: f64, rows: usize, per_step: usize) -> u64 {
    if max_steps > 0 { max_steps } else { ((epochs * rows as f64) / per_step as f64).ceil().max(1.0) as u64 }
}

fn rate(peak: f64, scheduler: LrScheduler, warmup_ratio: f64, total: u64) -> LearningRate {
    LearningRate { peak, scheduler, warmup: (warmup_ratio * total as f64).ceil() as u64, total }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document is the reference: a key that it does not name is a key that nobody finds.
    #[test]
    fn every_key_is_documented() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/recipe.md");
        let document = std::fs::read_to_string(path).unwrap();
        let train = serde_json::to_value(Recipe {
            tokenizer: Some(String::new()),
            adapter: Some(String::new()),
            references: Some(String::new()),
            missing_eos_penalty: Some(0.0),
            ..Recipe::default()
        });
        let sft = serde_json::to_value(SftRecipe {
            model: Some(String::new()),
            model_config: Some(String::new()),
            tokenizer: Some(String::new()),
            ..SftRecipe::default()
        });
        for recipe in [train.unwrap(), sft.unwrap()] {
            for key in recipe.as_object().unwrap().keys() {
                assert!(document.contains(&format!("`{key}`")), "docs/recipe.md does not name `{key}`");
            }
        }
    }

    #[test]
    fn f_is_a_count_or_t() {
        let phases = |json: &str| serde_json::from_str::<CollectionPhases>(json).ok();
        assert_eq!(phases("3"), Some(CollectionPhases::Count(3)));
        assert_eq!(phases("\"T\""), Some(CollectionPhases::EveryStep));
        assert_eq!([phases("0"), phases("\"t\""), phases("-1"), phases("1.5")], [None; 4]);
    }
}
