//! Settings of a supervised run.
use bpo_train::{SftRecipe, Tuning};

use super::{Batch, Chosen, Reasons, kept, longest, steps, tuned};
use crate::{
    args::Globals,
    check,
    failure::Failure,
    init::{
        Answers,
        look::{Looked, source},
    },
    recipe, sft,
};

/// Tokens of a row that are usual.
const USUAL: usize = 1024;

/// Chooses.
pub fn settings(answers: &Answers, globals: &Globals) -> Result<Chosen, Failure> {
    let looked = Looked::at(&source(answers), None, bpo_model::Dtype::Auto, &globals.device()?)?;
    let sets = [format!("model={}", answers.model), format!("data={}", answers.rows.file())];
    let mut settings: SftRecipe = recipe::parse(&recipe::load("", None, &sets)?, "bpo init")?;
    let (rows, context) = (sft::rows(&settings, &globals.progress())?, looked.context());
    settings.use_peft = answers.tuning != Tuning::Full;
    settings.lora_dropout = 0.0;
    settings.max_length = context;
    let plan = |settings: &SftRecipe| settings.plan(looked.sizes(), &looked.tokenizer, &rows);
    let mut reasons = Reasons::default();
    let all = plan(&settings)?;
    let (most, why) = longest(&all, context, USUAL, |_| "longer ones are left out".to_owned());
    settings.max_length = most;
    reasons.because("max_length", why);
    let rows_kept = plan(&settings)?.training;
    let memory = check::memory().map(|(total, _)| total);
    let batch = Batch::fitting(memory, rows_kept, true, &mut reasons, |size, checkpointing| {
        let with =
            SftRecipe { per_device_train_batch_size: size, gradient_checkpointing: checkpointing, ..settings.clone() };
        Ok(plan(&with)?.footprint.peak())
    })?;
    settings.per_device_train_batch_size = batch.size;
    settings.gradient_accumulation_steps = batch.accumulated;
    settings.gradient_checkpointing = batch.checkpointing;
    [settings.max_steps, settings.save_steps] = steps(rows_kept, batch, &mut reasons);
    settings.learning_rate = if settings.use_peft { 2e-4 } else { 2e-5 };
    reasons.because("train_on_prompt", "false: only completions are learnt; texts without a prompt are learnt whole");
    reasons.because("use_peft", tuned(answers.tuning));
    if settings.use_peft {
        reasons.because("lora_dropout", "none: data are seen once or a few times");
    }
    reasons.because("learning_rate", "what TRL takes with LoRA, and a tenth of it for all weights");
    reasons.because("dtype", kept(&looked));
    settings.validate()?;
    reasons.of(&settings)
}
