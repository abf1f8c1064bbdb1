//! What a run is about to do, said before it does: which procedure, and what is known to go wrong with it.
use crate::{OneOrMany, Recipe, Reference, RefreshSchedule};

/// The lines that a run begins with; `slope` is the loss's own in ρ where the policy equals its reference.
pub(crate) fn describe(
    recipe: &Recipe,
    schedule: &RefreshSchedule,
    total: u64,
    trainable: usize,
    slope: f64,
) -> Vec<String> {
    let mut lines = vec![format!(
        "{} loss, beta {}; reference: {}; {} in {total} steps; {}",
        shortened(&recipe.loss_type),
        recipe.beta,
        reference(recipe),
        collection(recipe, schedule),
        trained(recipe, trainable)
    )];
    lines.extend(warnings(recipe, schedule, total, slope));
    lines
}

/// Names stay whole; expressions are cut, the recipe has them in full.
fn shortened(losses: &OneOrMany<String>) -> String {
    const LONGEST: usize = 60;
    let text = losses.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) if text.contains("expr:") => format!("{}…", &text[..end]),
        _ => text,
    }
}

fn reference(recipe: &Recipe) -> String {
    match recipe.reference {
        Reference::Behaviour if recipe.pairs.is_some() && recipe.selm_alpha.is_none() => {
            "the behaviour policy, a copy of the trained one at each phase".into()
        }
        Reference::Behaviour => "the behaviour policy (BPO)".into(),
        Reference::Initial => "the initial policy".into(),
        Reference::Ema => format!(
            "moved {} of the way to the policy every {} steps",
            recipe.ref_model_mixup_alpha, recipe.ref_model_sync_steps
        ),
        Reference::Every(steps) => format!("a copy of the policy every {steps} steps"),
    }
}

fn collection(recipe: &Recipe, schedule: &RefreshSchedule) -> String {
    let phases = match schedule.phases() {
        1 => "one collection phase".to_string(),
        phases => format!("{phases} collection phases"),
    };
    match (&recipe.pairs, recipe.selm_alpha) {
        (Some(_), None) => "pairs from a file".into(),
        (Some(_), Some(_)) => format!("greedy responses beside the pairs of a file in {phases}"),
        (None, _) => phases,
    }
}

fn trained(recipe: &Recipe, trainable: usize) -> String {
    match recipe.ensemble_size {
        1 => format!("{trainable} trainable parameters"),
        members => format!("{members} members merged by {}, {trainable} trainable parameters", recipe.ensemble_merge),
    }
}

/// What is known to go wrong, said before it does.
fn warnings(recipe: &Recipe, schedule: &RefreshSchedule, total: u64, slope: f64) -> Vec<String> {
    let mut lines = Vec::new();
    let single = recipe.ensemble_size == 1;
    let drops = recipe.use_peft && recipe.lora_dropout > 0.0;
    let follows = match recipe.reference {
        Reference::Behaviour => schedule.phases() == total && total > 1,
        Reference::Every(steps) => steps == 1,
        Reference::Ema => recipe.ref_model_sync_steps == 1 && recipe.ref_model_mixup_alpha == 1.0,
        Reference::Initial => false,
    };
    if follows && single {
        let rho = if drops { "rho is nothing but dropout noise" } else { "rho is 0, a loss of rho is constant" };
        lines.push(format!(
            "warning: the reference is refreshed at every step, so the policy equals it whenever a gradient is taken: \
             {rho}, and nothing holds the policy near where it was. Use fewer collection_phases or an ensemble \
             (ensemble_size = 5)."
        ));
    }
    if slope > 0.0 {
        let extent = match recipe.reference {
            _ if follows && single => "at every step",
            Reference::Initial => "at the start",
            _ => "after every refresh",
        };
        lines.push(format!(
            "warning: where the policy equals its reference ({extent}) the {} loss lowers the margin of the chosen \
             completion (slope {slope:+.4} per nat)",
            shortened(&recipe.loss_type)
        ));
    }
    if recipe.reference == Reference::Ema && recipe.ref_model_sync_steps >= total {
        lines.push(format!(
            "warning: ref_model_sync_steps = {}: the reference never moves in {total} steps",
            recipe.ref_model_sync_steps
        ));
    }
    lines
}
