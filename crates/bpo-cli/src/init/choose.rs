//! From what was found to settings, each with its reason.
use bpo_train::{CollectionPhases, Footprint, Load, Recipe, Reference};

use super::{Answers, Procedure, Rows, look::Found};
use crate::{check, failure::Failure};

/// Settings in the order in which they are written: key and reason.
pub struct Chosen {
    /// All of them.
    pub recipe: Recipe,
    /// `(key, why)`.
    pub reasons: Vec<(&'static str, String)>,
}

/// Pairs per step that the recipes of this project use.
const STEP: usize = 16;
/// Steps of a first run: long enough to see whether it works.
const LONGEST: u64 = 300;
const SHORTEST: u64 = 60;
/// Share of the machine's memory that a run may be estimated to take.
const MEMORY: f64 = 0.6;

/// Chooses.
pub fn settings(answers: &Answers, found: &Found) -> Result<Chosen, Failure> {
    let mut chosen = Chosen { recipe: Recipe::default(), reasons: Vec::new() };
    chosen.lengths(found);
    chosen.template(found);
    chosen.batch(found);
    chosen.steps(found);
    chosen.procedure(answers.procedure);
    chosen.optimiser(found);
    chosen.evaluation(answers, found);
    chosen.recipe.validate()?;
    Ok(chosen)
}

impl Chosen {
    fn because(&mut self, key: &'static str, why: impl Into<String>) {
        self.reasons.push((key, why.into()));
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

    /// The largest micro-batch that fits the memory.
    fn batch(&mut self, found: &Found) {
        let Some(memory) = found.memory else { return self.batched(8, found, "memory of this machine is not known") };
        let room = (memory as f64 * MEMORY) as u64;
        self.recipe.lora_dropout = 0.0;
        for checkpointing in [false, true] {
            self.recipe.gradient_checkpointing = checkpointing;
            for batch in [16, 8, 4, 2, 1] {
                let peak = self.peak(batch, found);
                if peak <= room {
                    if checkpointing {
                        self.because("gradient_checkpointing", "without it not even one pair fits the memory");
                    }
                    let why = format!("about {} of this machine's {}", check::size(peak), check::size(memory));
                    return self.batched(batch, found, &why);
                }
            }
        }
        self.because("gradient_checkpointing", "the least memory that a run can take");
        let why = format!("one pair takes about {}: more than is good", check::size(self.peak(1, found)));
        self.batched(1, found, &why);
    }

    fn peak(&self, batch: usize, found: &Found) -> u64 {
        let recipe = Recipe { per_device_train_batch_size: batch, ..self.recipe.clone() };
        let load =
            Load { prompt: mean(&found.prompts), completion: recipe.max_new_tokens, weight_bytes: found.weight_bytes };
        Footprint::of(&recipe, &found.config, found.parameters, load).peak()
    }

    fn batched(&mut self, batch: usize, found: &Found, why: &str) {
        let batch = batch.min(found.prompts.len()).max(1);
        self.recipe.per_device_train_batch_size = batch;
        self.because("per_device_train_batch_size", why);
        let accumulated = (STEP / batch).max(1);
        if accumulated > 1 && found.prompts.len() >= STEP {
            self.recipe.gradient_accumulation_steps = accumulated;
            self.because("gradient_accumulation_steps", format!("{STEP} pairs a step"));
        }
    }

    fn steps(&mut self, found: &Found) {
        let per_step = self.recipe.prompts_per_step();
        // An eighth may be held out.
        let rows = found.prompts.len() - found.prompts.len() / 8;
        let pass = rows.div_ceil(per_step).max(1) as u64;
        let (steps, why) = match pass {
            pass if pass > LONGEST => (LONGEST, format!("one pass would be about {pass} steps; 0 makes it one")),
            pass if pass < SHORTEST => {
                let passes = SHORTEST.div_ceil(pass).min(10);
                (pass * passes, format!("{passes} passes over about {rows} rows"))
            }
            pass => (pass, format!("one pass over about {rows} rows")),
        };
        self.recipe.max_steps = steps;
        self.because("max_steps", why);
        self.recipe.save_steps = (steps / 15).max(1);
        self.because("save_steps", "a kill loses no more than these");
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
            Procedure::Dpo => (CollectionPhases::Count(1), Reference::Initial, "DPO: the model as it starts"),
        };
        (self.recipe.collection_phases, self.recipe.reference) = (phases, reference);
        self.because("loss_type", "DPO's; ipo and hinge are the paper's others, docs/algorithms.md has 34");
        self.because("beta", "the pull towards the reference: higher stays nearer");
        self.because("reference", why);
        if procedure != Procedure::Dpo {
            self.because("collection_phases", "how often the behaviour policy becomes the policy; \"T\" is every step");
        }
    }

    fn optimiser(&mut self, found: &Found) {
        let (rate, why) = match found.parameters {
            n if n < 200_000_000 => (5e-4, "what models of this size take in a short run (recipes/ of this project)"),
            n if n < 1_000_000_000 => (1e-4, "between the small models of recipes/ and the paper's 2 B"),
            _ => (5e-5, "the paper's, on a model of 2 B parameters"),
        };
        self.recipe.learning_rate = rate;
        self.recipe.lora_dropout = 0.0;
        let full = Footprint::of(
            &Recipe { use_peft: false, ..self.recipe.clone() },
            &found.config,
            found.parameters,
            Load { prompt: mean(&found.prompts), completion: self.recipe.max_new_tokens, weight_bytes: 4 },
        );
        let peak = check::size(self.peak(self.recipe.per_device_train_batch_size, found));
        let why_lora = format!("LoRA: about {peak} where all weights would take {}", check::size(full.peak()));
        self.because("use_peft", why_lora);
        self.because("lora_dropout", "as in the paper: a refreshed policy then equals its reference exactly");
        self.because("learning_rate", why);
        self.because("dtype", format!("the file is {}: kept in {}", found.stored, kept(found.weight_bytes)));
    }

    fn evaluation(&mut self, answers: &Answers, found: &Found) {
        let (most, why) = match (&answers.references, &answers.rows) {
            (Some(_), _) => (found.references, "of the references"),
            (None, Rows::Prompts(_)) => (found.prompts.len() / 8, "of the prompts, which are not trained on"),
            (None, Rows::Pairs(_)) => (found.prompts.len() / 8, "of the pairs' prompts, which are not trained on"),
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
