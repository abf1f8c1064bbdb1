//! From what was found to settings, each with its reason.
mod causal;
mod preference;
mod reward;
mod sft;

use bpo_train::{Plan, Tuning};
use serde::Serialize;
use toml::Table;

use super::{
    Answers,
    look::{self, Looked},
};
use crate::{
    args::Globals,
    check,
    failure::{Failure, Kind},
};

/// Settings in the order in which they are written.
pub struct Chosen {
    /// All keys of the recipe.
    pub table: Table,
    /// Those that are written, with the reason for each.
    pub reasons: Vec<(&'static str, String)>,
}

/// Examples per step that the recipes of this project use.
const STEP: usize = 16;
/// Steps of a first run: long enough to see whether it works.
const LONGEST: u64 = 300;
const SHORTEST: u64 = 60;
/// Share of the machine's memory that a run may be estimated to take.
const MEMORY: f64 = 0.6;

/// Looks at the model and at the data, and chooses.
pub fn settings(answers: &Answers, globals: &Globals) -> Result<Chosen, Failure> {
    match answers.procedure {
        super::Procedure::Sft => sft::settings(answers, globals),
        super::Procedure::Reward => reward::settings(answers, globals),
        super::Procedure::Causal => causal::settings(answers, globals),
        _ => preference::settings(answers, &look::at(answers, globals)?),
    }
}

/// Reasons as they come up.
#[derive(Default)]
struct Reasons(Vec<(&'static str, String)>);

impl Reasons {
    fn because(&mut self, key: &'static str, why: impl Into<String>) {
        self.0.push((key, why.into()));
    }

    fn of(self, recipe: &impl Serialize) -> Result<Chosen, Failure> {
        let table = Table::try_from(recipe).map_err(|error| Failure::new(Kind::Internal, error))?;
        Ok(Chosen { table, reasons: self.0 })
    }
}

/// Micro-batches of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Batch {
    size: usize,
    accumulated: usize,
    checkpointing: bool,
}

impl Batch {
    /// The largest that fits `memory`, by what `peak` says of a size with or without checkpointing; steps are of
    /// [`STEP`] of the `rows` where there are so many.
    fn fitting(
        memory: Option<u64>,
        rows: usize,
        may_checkpoint: bool,
        reasons: &mut Reasons,
        mut peak: impl FnMut(usize, bool) -> Result<u64, Failure>,
    ) -> Result<Self, Failure> {
        let mut found = None;
        let Some(memory) = memory else {
            return Ok(Self::of(8, false, rows, "memory of this machine is not known", reasons));
        };
        let room = (memory as f64 * MEMORY) as u64;
        let kinds: &[bool] = if may_checkpoint { &[false, true] } else { &[false] };
        'found: for &checkpointing in kinds {
            for size in [16, 8, 4, 2, 1] {
                let bytes = peak(size, checkpointing)?;
                if bytes <= room {
                    let why = format!("about {} of this machine's {}", check::size(bytes), check::size(memory));
                    found = Some((size, checkpointing, why));
                    break 'found;
                }
            }
        }
        if let Some((size, checkpointing, why)) = found {
            if checkpointing {
                reasons.because("gradient_checkpointing", "without it not even one fits the memory");
            }
            return Ok(Self::of(size, checkpointing, rows, &why, reasons));
        }
        if may_checkpoint {
            reasons.because("gradient_checkpointing", "the least memory that a run can take");
        }
        let why = format!("one takes about {}: more than is good", check::size(peak(1, may_checkpoint)?));
        Ok(Self::of(1, may_checkpoint, rows, &why, reasons))
    }

    fn of(size: usize, checkpointing: bool, rows: usize, why: &str, reasons: &mut Reasons) -> Self {
        let size = size.min(rows).max(1);
        reasons.because("per_device_train_batch_size", why);
        let accumulated = if rows >= STEP { (STEP / size).max(1) } else { 1 };
        if accumulated > 1 {
            reasons.because("gradient_accumulation_steps", format!("{STEP} a step"));
        }
        Self { size, accumulated, checkpointing }
    }

    fn per_step(self) -> usize {
        self.size * self.accumulated
    }
}

/// Steps over `rows`, and steps between checkpoints.
fn steps(rows: usize, batch: Batch, reasons: &mut Reasons) -> [u64; 2] {
    let pass = rows.div_ceil(batch.per_step()).max(1) as u64;
    let (steps, why) = match pass {
        pass if pass > LONGEST => (LONGEST, format!("one pass would be about {pass} steps; 0 makes it one")),
        pass if pass < SHORTEST => {
            let passes = SHORTEST.div_ceil(pass).min(10);
            (pass * passes, format!("{passes} passes over about {rows} rows"))
        }
        pass => (pass, format!("one pass over about {rows} rows")),
    };
    reasons.because("max_steps", why);
    reasons.because("save_steps", "a kill loses no more than these");
    [steps, (steps / 15).max(1)]
}

/// The longest row that is trained on, where rows may have `context` tokens: all of them, unless a few are far longer.
fn longest(all: &Plan, context: usize, usual: usize, left_out: impl FnOnce(usize) -> String) -> (usize, String) {
    match all.longest {
        longest if longest <= usual.min(context) => {
            (longest.next_multiple_of(8).min(context), format!("the longest row has {longest} tokens"))
        }
        longest => {
            let most = usual.min(context);
            (most, format!("the longest row has {longest} tokens: {}", left_out(most)))
        }
    }
}

/// What is trained, in words.
fn tuned(tuning: Tuning) -> &'static str {
    match tuning {
        Tuning::Lora => "LoRA: a hundredth of the weights, in far less memory; false trains all of them",
        Tuning::Full => "all weights are trained: more memory, and a lower learning rate; true trains LoRA branches",
        Tuning::Head => "the head alone",
    }
}

fn kept(looked: &Looked) -> String {
    let kept = if looked.weight_bytes == 4 { "f32" } else { "bf16" };
    format!("the file is {}: kept in {kept}", looked.stored())
}
