//! Settings of a run on outcomes.
use bpo_train::{CausalRecipe, Tuning};

use super::{Batch, Chosen, Reasons, kept, preference, steps, tuned};
use crate::{
    args::Globals,
    causal, check,
    failure::Failure,
    init::{
        Answers,
        look::{Looked, source},
        write,
    },
    recipe,
};

/// Tokens of a sampled completion that are usual.
const USUAL: usize = 256;

/// Chooses.
pub fn settings(answers: &Answers, globals: &Globals) -> Result<Chosen, Failure> {
    let looked = Looked::at(&source(answers), None, bpo_model::Dtype::Auto, &globals.device()?)?;
    let mut sets = vec![
        format!("model={}", answers.model),
        format!("outcomes={}", answers.rows.file()),
        format!("annotator={}", write::annotator(answers)?),
    ];
    sets.extend(answers.references.iter().map(|file| format!("references={file}")));
    let mut settings: CausalRecipe = recipe::parse(&recipe::load("", None, &sets)?, "bpo init")?;
    let (rows, references) = causal::rows(&settings, &globals.progress())?;
    settings.use_peft = answers.tuning != Tuning::Full;
    let context = looked.context();
    (settings.max_new_tokens, settings.max_prompt_length) = (1, context - 1);
    let plan = |settings: &CausalRecipe| settings.plan(looked.sizes(), &looked.tokenizer, &rows, references.as_ref());
    let mut reasons = Reasons::default();
    let all = plan(&settings)?;
    let new = all.longest.next_multiple_of(8).min(USUAL).min(context / 2).max(1);
    settings.max_new_tokens = new;
    settings.max_prompt_length = all.longest.next_multiple_of(8).min(context - new).max(1);
    reasons.because("max_prompt_length", format!("the longest text has {} tokens with its prompt", all.longest));
    reasons.because("max_new_tokens", "responses to held-out prompts may be as long as the texts");
    reasons.because(
        "causal_estimator",
        "ipw: the outcomes alone; dr asks the annotator too, which must then score in their unit",
    );
    settings.self_normalised = true;
    settings.ratio_clip = Some([0.0, 5.0]);
    reasons.because("self_normalised", "little bias, far less variance");
    reasons.because("ratio_clip", "no single text decides a step");
    let training = plan(&settings)?.training;
    let memory = check::memory().map(|(total, _)| total);
    let batch = Batch::fitting(memory, training, true, &mut reasons, |size, checkpointing| {
        let with = CausalRecipe {
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
    let (rate, why) = preference::rate(looked.sizes().parameters, settings.use_peft);
    settings.learning_rate = rate;
    reasons.because("use_peft", tuned(answers.tuning));
    reasons.because("learning_rate", why);
    reasons.because("dtype", kept(&looked));
    settings.eval_size = all.held_out.min(64);
    reasons.because("eval_size", "held-out prompts, which are not trained on");
    settings.validate()?;
    reasons.of(&settings)
}
