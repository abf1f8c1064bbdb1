//! Settings of a reward model.
use std::path::Path;

use bpo_train::{RewardRecipe, Tuning};

use super::{Batch, Chosen, Reasons, kept, longest, steps};
use crate::{
    args::Globals,
    check,
    failure::Failure,
    init::{Answers, look::Looked},
    recipe, reward,
};

/// Tokens of a row that are usual.
const USUAL: usize = 512;

/// Chooses.
pub fn settings(answers: &Answers, globals: &Globals) -> Result<Chosen, Failure> {
    let sets = [format!("model={}", answers.model), format!("pairs={}", answers.rows.file())];
    let mut settings: RewardRecipe = recipe::parse(&recipe::load("", None, &sets)?, "bpo init")?;
    settings.tuning = answers.tuning;
    let (source, _) = reward::source(&settings)?;
    let dir = Path::new(&settings.model);
    let looked = Looked::at_reward_model(&source, dir, None, settings.dtype, &globals.device()?)?;
    let (rows, _) = reward::rows(&settings, &globals.progress())?;
    let plan = |settings: &RewardRecipe| settings.plan(looked.sizes(), &looked.tokenizer, &rows, None);
    let mut reasons = Reasons::default();
    let context = looked.context();
    settings.max_length = context;
    let (most, why) =
        longest(&plan(&settings)?, context, USUAL, |_| "longer ones lose the beginning of their prompt".to_owned());
    settings.max_length = most.max(8);
    reasons.because("tuning", tuned(answers.tuning));
    reasons.because("max_length", why);
    let is_decoder = !looked.is_encoder();
    let memory = check::memory().map(|(total, _)| total);
    let may_checkpoint = is_decoder && settings.tuning != Tuning::Head;
    let training = plan(&settings)?.training;
    let batch = Batch::fitting(memory, training, may_checkpoint, &mut reasons, |size, checkpointing| {
        let with = RewardRecipe {
            per_device_train_batch_size: size,
            gradient_checkpointing: checkpointing,
            ..settings.clone()
        };
        Ok(plan(&with)?.footprint.peak())
    })?;
    settings.per_device_train_batch_size = batch.size;
    settings.gradient_accumulation_steps = batch.accumulated;
    settings.gradient_checkpointing = batch.checkpointing;
    [settings.max_steps, settings.save_steps] = steps(training, batch, &mut reasons);
    settings.learning_rate = Some(settings.peak());
    reasons.because(
        "eval_share",
        "of the prompts, which are not trained on: accuracy and calibration are measured on them",
    );
    reasons.because("learning_rate", "what is usual with this tuning");
    if is_decoder {
        reasons.because("dtype", kept(&looked));
    }
    settings.validate()?;
    reasons.of(&settings)
}

fn tuned(tuning: Tuning) -> &'static str {
    match tuning {
        Tuning::Head => "the head alone: fast, since the body reads every text once only; lora and full learn more",
        Tuning::Lora => "branches of the body and the head; head is faster, full takes more memory",
        Tuning::Full => "all weights: what a small encoder takes best; lora and head take less memory",
    }
}
