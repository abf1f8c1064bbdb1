//! Settings of a preference run.
use bpo_train::{CollectionPhases, Footprint, Load, Recipe, Reference, Tuning};

use super::{Batch, Chosen, Reasons, steps, tuned};
use crate::{
    check,
    failure::Failure,
    init::{Answers, Procedure, Rows, look::Found},
};

/// What was chosen so far.
struct Choice {
    recipe: Recipe,
    reasons: Reasons,
}

/// Chooses.
pub fn settings(answers: &Answers, found: &Found) -> Result<Chosen, Failure> {
    let recipe = Recipe { use_peft: answers.tuning != Tuning::Full, lora_dropout: 0.0, ..Recipe::default() };
    let mut chosen = Choice { recipe, reasons: Reasons::default() };
    chosen.lengths(found);
    chosen.template(found);
    chosen.batch(found)?;
    chosen.procedure(answers.procedure);
    chosen.optimiser(answers, found);
    chosen.evaluation(answers, found);
    chosen.recipe.validate()?;
    chosen.reasons.of(&chosen.recipe)
}

/// A peak learning rate for a model of so many numbers, and why.
pub fn rate(parameters: usize, use_peft: bool) -> (f64, &'static str) {
    match (parameters, use_peft) {
        (n, true) if n < 200_000_000 => {
            (5e-4, "what models of this size take in a short run (recipes/ of this project)")
        }
        (n, true) if n < 1_000_000_000 => (1e-4, "between the small models of recipes/ and the paper's 2 B"),
        (_, true) => (5e-5, "the paper's, on a model of 2 B parameters"),
        (n, false) if n < 200_000_000 => {
            (2e-5, "all weights of a small model; where its KL to the start runs away, less")
        }
        (n, false) if n < 1_000_000_000 => (5e-6, "between the small models and those of billions of weights"),
        (_, false) => (5e-7, "what is usual where all weights are trained"),
    }
}

impl Choice {
    fn because(&mut self, key: &'static str, why: impl Into<String>) {
        self.reasons.because(key, why);
    }

    fn lengths(&mut self, found: &Found) {
        let context = found.config.max_position_embeddings;
        let (new, why) = match share(&found.completions, 0.95) {
            Some(length) => {
                let new = length.next_multiple_of(8).clamp(8, 256);
                (new, format!("19 of 20 responses in the data have at most {length} tokens"))
            }
            None => (64, "the data have no responses to go by; time grows with it, and so do responses".to_owned()),
        };
        let new = new.min(context / 2).max(1);
        let room = context - new;
        let longest = found.prompts.last().copied().unwrap_or(1);
        let common = share(&found.prompts, 0.95).unwrap_or(1);
        let (most, why_most) = match longest {
            longest if longest <= room && longest <= 2 * common.max(64) => {
                (longest, format!("the longest prompt has {longest} tokens"))
            }
            _ => {
                let most = common.min(room);
                let longer =
                    found.prompts.iter().filter(|&&length| length > most.next_multiple_of(8).min(room)).count();
                (most, format!("19 of 20 prompts have at most {common} tokens; {longer} longer ones are left out"))
            }
        };
        self.recipe.max_new_tokens = new;
        self.recipe.max_prompt_length = most.next_multiple_of(8).min(room).max(1);
        self.because("max_prompt_length", why_most);
        self.because("max_new_tokens", why);
    }

    fn template(&mut self, found: &Found) {
        if found.wants_template {
            self.recipe.apply_chat_template = true;
            self.because("apply_chat_template", "the tokenizer has a chat template, and prompts are plain text");
        }
    }

    /// The largest micro-batch that fits the memory, and so the steps.
    fn batch(&mut self, found: &Found) -> Result<(), Failure> {
        let mut reasons = std::mem::take(&mut self.reasons);
        let peak = |size, checkpointing| Ok(self.peak(size, checkpointing, found));
        let batch = Batch::fitting(found.memory, found.prompts.len(), true, &mut reasons, peak)?;
        self.recipe.per_device_train_batch_size = batch.size;
        self.recipe.gradient_accumulation_steps = batch.accumulated;
        self.recipe.gradient_checkpointing = batch.checkpointing;
        // An eighth may be held out.
        let rows = found.prompts.len() - found.prompts.len() / 8;
        [self.recipe.max_steps, self.recipe.save_steps] = steps(rows, batch, &mut reasons);
        self.reasons = reasons;
        Ok(())
    }

    fn peak(&self, batch: usize, checkpointing: bool, found: &Found) -> u64 {
        let recipe =
            Recipe { per_device_train_batch_size: batch, gradient_checkpointing: checkpointing, ..self.recipe.clone() };
        let load =
            Load { prompt: mean(&found.prompts), completion: recipe.max_new_tokens, weight_bytes: found.weight_bytes };
        Footprint::of(&recipe, &found.config, found.parameters, load).peak()
    }

    fn procedure(&mut self, procedure: Procedure) {
        let (phases, reference, why) = match procedure {
            Procedure::Bpo => {
                let phases = if self.recipe.max_steps >= 40 { 4 } else { 2 };
                (CollectionPhases::Count(phases), Reference::Behaviour, "BPO: the policy that sampled the pair")
            }
            Procedure::OnlineDpo => {
                (CollectionPhases::EveryStep, Reference::Initial, "online DPO: the model as it starts")
            }
            Procedure::OfflineDpo => (CollectionPhases::Count(1), Reference::Initial, "DPO: the model as it starts"),
            _ => (CollectionPhases::Count(1), Reference::Initial, "DPO: the model as it starts"),
        };
        (self.recipe.collection_phases, self.recipe.reference) = (phases, reference);
        self.because("loss_type", "DPO's; ipo and hinge are the paper's others, docs/algorithms.md has 34");
        self.because("beta", "the pull towards the reference: higher stays nearer");
        self.because("reference", why);
        if procedure != Procedure::Dpo {
            self.because("collection_phases", "how often the behaviour policy becomes the policy; \"T\" is every step");
        }
    }

    fn optimiser(&mut self, answers: &Answers, found: &Found) {
        let (rate, why) = rate(found.parameters, self.recipe.use_peft);
        self.recipe.learning_rate = rate;
        let why_tuning = match answers.tuning {
            Tuning::Full => tuned(Tuning::Full).to_owned(),
            _ => {
                let full = Footprint::of(
                    &Recipe { use_peft: false, ..self.recipe.clone() },
                    &found.config,
                    found.parameters,
                    Load { prompt: mean(&found.prompts), completion: self.recipe.max_new_tokens, weight_bytes: 4 },
                );
                let Recipe { per_device_train_batch_size: batch, gradient_checkpointing, .. } = self.recipe;
                let peak = check::size(self.peak(batch, gradient_checkpointing, found));
                format!("LoRA: about {peak} where all weights would take {}", check::size(full.peak()))
            }
        };
        self.because("use_peft", why_tuning);
        if self.recipe.use_peft {
            self.because("lora_dropout", "as in the paper: a refreshed policy then equals its reference exactly");
        }
        self.because("learning_rate", why);
        self.because("dtype", format!("the file is {}: kept in {}", found.stored, kept(found.weight_bytes)));
    }

    fn evaluation(&mut self, answers: &Answers, found: &Found) {
        let (most, why) = match (&answers.references, &answers.rows) {
            (Some(_), _) => (found.references, "of the references"),
            (None, Rows::Prompts(_)) => (found.prompts.len() / 8, "of the prompts, which are not trained on"),
            (None, _) => (found.prompts.len() / 8, "of the pairs' prompts, which are not trained on"),
        };
        self.recipe.eval_size = most.min(64);
        self.because("eval_size", why);
    }
}

fn kept(bytes: usize) -> &'static str {
    if bytes == 4 { "f32" } else { "bf16" }
}

/// The length that this share of sorted lengths does not exceed.
fn share(sorted: &[usize], share: f64) -> Option<usize> {
    sorted.get(((sorted.len().saturating_sub(1)) as f64 * share).ceil() as usize).copied()
}

fn mean(lengths: &[usize]) -> usize {
    lengths.iter().sum::<usize>().div_ceil(lengths.len().max(1))
}
