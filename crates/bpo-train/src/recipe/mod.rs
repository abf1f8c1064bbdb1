//! Recipes of preference runs.
mod causal;
mod checks;
mod kinds;
mod reward;
mod sft;

pub use causal::{CausalEstimator, CausalForm, CausalRecipe};
pub use kinds::{CollectionPhases, EvalStrategy, FDivergenceType, LrScheduler, OneOrMany, Reference};
pub use reward::{RewardRecipe, Tuning};
pub use sft::SftRecipe;

use bpo_annotate::{AnnotatorConfig, TieRule};
use bpo_data::{BadLines, Limits, Tokenizer, Truncation};
use bpo_loss::{FDivergence, LossType, Objective, Term};
use bpo_model::{AdapterMerge, Dtype, LoraConfig};
use bpo_sampler::{GenerateConfig, PairSelection, Sampling};
use bpo_service::SamplerConfig;
use serde::{Deserialize, Serialize};

use crate::{AdamWConfig, Error, LearningRate, RefreshSchedule, update::Criterion};

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
    /// PEFT adapter to start from instead of a new one; a list has one for each member of an ensemble.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<OneOrMany<String>>,
    /// `auto`, `float32` or `bfloat16`: what frozen weights are kept in.
    pub dtype: Dtype,
    /// Prompts to sample from.
    pub prompts: String,
    /// Preference pairs to train on instead of sampled ones; their prompts take the place of `prompts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<String>,
    /// Held-out prompts with reference texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub references: Option<String>,
    /// `stop` or `skip`: what happens to rows of data files that cannot be read.
    pub bad_lines: BadLines,
    /// Put a prompt that is plain text to the model as a user's message, by its chat template. A trailing
    /// `Assistant:` is taken off: the template says whose turn it is.
    pub apply_chat_template: bool,
    /// Who prefers.
    pub annotator: AnnotatorConfig,
    /// A server that samples in this program's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<SamplerConfig>,
    /// Decides every random choice.
    pub seed: u64,

    /// `sigmoid` (DPO), `hinge` (SLiC), `ipo` or another of [`LossType::ALL`]; a list is added up.
    pub loss_type: OneOrMany<String>,
    /// Factors of the losses of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_weights: Option<Vec<f64>>,
    /// Strength of the pull towards the reference.
    pub beta: f64,
    /// Assumed share of flipped labels.
    pub label_smoothing: f64,
    /// IPO on length-averaged log-probs.
    pub ipo_length_norm: bool,
    /// Temperature of the `discopop` loss.
    pub discopop_tau: f64,
    /// The divergence that holds the policy near its reference.
    pub f_divergence_type: FDivergenceType,
    /// α of `alpha_divergence`.
    pub f_alpha_divergence_coef: f64,
    /// LD-DPO: weight of the tokens beyond the shorter completion's length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ld_alpha: Option<f64>,
    /// WPO: weigh pairs by how likely the policy is to write them.
    pub use_weighting: bool,
    /// OPTune: weigh pairs by σ(β₂ · score gap).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optune_beta2: Option<f64>,
    /// SELM: weight of the optimism bonus on a greedy response, which is then also a candidate of the pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selm_alpha: Option<f64>,
    /// Score subtracted from completions cut before EOS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_eos_penalty: Option<f64>,

    /// The paper's F.
    pub collection_phases: CollectionPhases,
    /// What the loss measures against.
    pub reference: Reference,
    /// `ema`: how far the reference moves towards the policy at a time.
    pub ref_model_mixup_alpha: f64,
    /// `ema`: steps between its moves.
    pub ref_model_sync_steps: u64,
    /// LoRA members trained on the same pairs; the policy is their merge.
    pub ensemble_size: usize,
    /// How members are merged: `mean`, `concat`, `svd:R` or `peft_linear`.
    pub ensemble_merge: AdapterMerge,

    /// Steps; 0 means `num_train_epochs` decides.
    pub max_steps: u64,
    /// Passes over the prompts.
    pub num_train_epochs: f64,
    /// Pairs per forward and backward.
    pub per_device_train_batch_size: usize,
    /// Compute layers twice instead of keeping what they computed for the backward pass: less memory, more time.
    pub gradient_checkpointing: bool,
    /// Micro-batches per step: a step samples `per_device_train_batch_size` times this many prompts.
    pub gradient_accumulation_steps: usize,
    /// Completions sampled per prompt; a pair needs two.
    pub samples_per_prompt: usize,
    /// Which two of them make the pair.
    pub pair_selection: PairSelection,
    /// Weight of the members' spread in the `ucb_` selections.
    pub ucb_gamma: f64,
    /// What happens to a tie: `drop`, or the `first` or the `second` response counts as better.
    pub ties: TieRule,
    /// OPTune: share of the prompts seen before, those of the lowest scores, that are answered anew in a phase; the
    /// others train on the pairs they have.
    pub regenerate_fraction: f64,

    /// Completions are cut after this many tokens.
    pub max_new_tokens: usize,
    /// No EOS token is admissible before this many were sampled, in training and in evaluation.
    pub min_new_tokens: usize,
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
    /// Completions decoded together, in evaluation and in training: bounds the memory of their keys and values.
    pub per_device_eval_batch_size: usize,
    /// Temperature of evaluation; 0 is greedy.
    pub eval_temperature: f64,
    /// `no`, `steps` or `phase`: when the policy is evaluated between the start and the end.
    pub eval_strategy: EvalStrategy,
    /// `steps`: steps between evaluations; 0 for only the first and the last.
    pub eval_steps: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        let (lora, objective, adam) = (LoraConfig::default(), Objective::default(), AdamWConfig::default());
        Self {
            model: "embedded".into(),
            tokenizer: None,
            adapter: None,
            dtype: Dtype::Auto,
            prompts: "embedded".into(),
            pairs: None,
            references: None,
            bad_lines: BadLines::Stop,
            apply_chat_template: false,
            annotator: bpo_annotate::AnnotatorKind::Lexicon(bpo_annotate::LexiconConfig::default()).into(),
            sampler: None,
            seed: 42,
            loss_type: LossType::default().to_string().as_str().into(),
            loss_weights: None,
            beta: objective.beta,
            label_smoothing: objective.label_smoothing,
            ipo_length_norm: objective.ipo_length_norm,
            discopop_tau: objective.discopop_tau,
            f_divergence_type: FDivergenceType::default(),
            f_alpha_divergence_coef: 0.5,
            ld_alpha: None,
            use_weighting: false,
            optune_beta2: None,
            selm_alpha: None,
            missing_eos_penalty: None,
            collection_phases: CollectionPhases::Count(2),
            reference: Reference::Behaviour,
            ref_model_mixup_alpha: 0.6,
            ref_model_sync_steps: 512,
            ensemble_size: 1,
            ensemble_merge: AdapterMerge::Mean,
            max_steps: 0,
            num_train_epochs: 1.0,
            per_device_train_batch_size: 8,
            gradient_checkpointing: false,
            gradient_accumulation_steps: 1,
            samples_per_prompt: 2,
            pair_selection: PairSelection::FirstTwo,
            ucb_gamma: 1.0,
            ties: TieRule::Drop,
            regenerate_fraction: 1.0,
            max_new_tokens: 64,
            min_new_tokens: 0,
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
            eval_strategy: EvalStrategy::default(),
            eval_steps: 0,
        }
    }
}

impl Recipe {
    /// The loss.
    ///
    /// # Errors
    /// [`Error::Recipe`] for an unknown `loss_type` or a wrong number of weights, [`Error::Loss`] for a bad
    /// hyper-parameter.
    pub fn objective(&self) -> Result<Objective, Error> {
        let objective = Objective {
            terms: self.terms()?,
            beta: self.beta,
            label_smoothing: self.label_smoothing,
            ipo_length_norm: self.ipo_length_norm,
            discopop_tau: self.discopop_tau,
            bco_delta: 0.0,
            divergence: match self.f_divergence_type {
                FDivergenceType::ReverseKl => FDivergence::ReverseKl,
                FDivergenceType::ForwardKl => FDivergence::ForwardKl,
                FDivergenceType::JsDivergence => FDivergence::JsDivergence,
                FDivergenceType::AlphaDivergence => {
                    FDivergence::AlphaDivergence { coefficient: self.f_alpha_divergence_coef }
                }
            },
        };
        objective.validate()?;
        Ok(objective)
    }

    /// The loss with the weights and bonuses of its procedure.
    ///
    /// # Errors
    /// As [`Recipe::objective`].
    pub(crate) fn criterion(&self) -> Result<Criterion, Error> {
        Ok(Criterion {
            objective: self.objective()?,
            ld_alpha: self.ld_alpha,
            use_weighting: self.use_weighting,
            optune_beta2: self.optune_beta2,
            selm_alpha: self.selm_alpha,
        })
    }

    fn terms(&self) -> Result<Vec<Term>, Error> {
        let losses = self.loss_type.as_slice();
        let weights = self.loss_weights.clone().unwrap_or_else(|| vec![1.0; losses.len()]);
        if weights.len() != losses.len() || losses.is_empty() {
            let (losses, weights) = (losses.len(), weights.len());
            return Err(Error::Recipe(format!("loss_type names {losses} losses, loss_weights has {weights} numbers")));
        }
        let term = |(name, weight): (&String, f64)| {
            let loss_type = name.parse::<LossType>()?;
            Ok(Term { loss_type, weight })
        };
        losses.iter().zip(weights).map(term).collect()
    }

    /// How tokens are chosen at `temperature`.
    pub fn sampling(&self, temperature: f64) -> Sampling {
        if temperature == 0.0 {
            return Sampling::greedy();
        }
        Sampling { temperature, top_k: self.top_k, top_p: self.top_p, min_p: self.min_p }
    }

    /// How completions are drawn at `temperature`.
    pub(crate) fn generate_config(&self, tokenizer: &Tokenizer, temperature: f64) -> GenerateConfig {
        GenerateConfig {
            max_new_tokens: self.max_new_tokens,
            min_new_tokens: self.min_new_tokens,
            batch_size: self.per_device_eval_batch_size,
            sampling: self.sampling(temperature),
            eos_ids: tokenizer.eos_ids().to_vec(),
            sampled_vocab: Some(tokenizer.vocab_size()),
        }
    }

    /// The adapters to start from, as written.
    pub fn adapters(&self) -> &[String] {
        self.adapter.as_ref().map_or(&[], OneOrMany::as_slice)
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

    /// Whether steps leave completions and verdicts in the journal: pairs of a file do not.
    pub(crate) fn records_steps(&self) -> bool {
        self.pairs.is_none() || self.selm_alpha.is_some()
    }

    /// Prompts, and so pairs at most, per step.
    pub fn prompts_per_step(&self) -> usize {
        self.per_device_train_batch_size * self.gradient_accumulation_steps
    }

    /// Responses that the annotator judges per prompt of a step; 0 where the pairs are given.
    pub fn judged_per_prompt(&self) -> usize {
        match (&self.pairs, self.selm_alpha) {
            (Some(_), None) => 0,
            (Some(_), Some(_)) => 3,
            (None, Some(_)) => 1 + self.samples_per_prompt,
            (None, None) if self.pair_selection.needs_scores() => self.samples_per_prompt,
            (None, None) => 2,
        }
    }

    /// T, for `prompts` training prompts.
    pub fn steps(&self, prompts: usize) -> u64 {
        steps(self.max_steps, self.num_train_epochs, prompts, self.prompts_per_step())
    }

    /// The learning rate over `total` steps.
    pub fn rate(&self, total: u64) -> LearningRate {
        rate(self.learning_rate, self.lr_scheduler_type, self.warmup_ratio, total)
    }

    /// Whether the policy is evaluated after `step` of `total` steps, between the start and the end; `schedule` is that of
    /// the run's phases.
    pub fn evaluates_at(&self, step: u64, total: u64, schedule: &RefreshSchedule) -> bool {
        let is_due = match self.eval_strategy {
            EvalStrategy::No => false,
            EvalStrategy::Steps => self.eval_steps > 0 && step.is_multiple_of(self.eval_steps),
            EvalStrategy::Phase => schedule.due(step),
        };
        is_due && step > 0 && step < total
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
            adapter: Some("".into()),
            references: Some(String::new()),
            pairs: Some(String::new()),
            loss_weights: Some(Vec::new()),
            ld_alpha: Some(1.0),
            optune_beta2: Some(1.0),
            selm_alpha: Some(0.001),
            missing_eos_penalty: Some(0.0),
            sampler: Some(SamplerConfig::at(bpo_service::ServiceUrl::new("http://localhost/v1").unwrap())),
            ..Recipe::default()
        });
        let sft = serde_json::to_value(SftRecipe {
            model: Some(String::new()),
            model_config: Some(String::new()),
            tokenizer: Some(String::new()),
            ..SftRecipe::default()
        });
        let reward = serde_json::to_value(RewardRecipe {
            tokenizer: Some(String::new()),
            eval_pairs: Some(String::new()),
            learning_rate: Some(1e-4),
            ..RewardRecipe::default()
        });
        for recipe in [train.unwrap(), sft.unwrap(), reward.unwrap()] {
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
