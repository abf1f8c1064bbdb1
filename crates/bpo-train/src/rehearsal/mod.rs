//! A run's beginning without a run: everything that it would refuse is refused, nothing is written, nobody is asked.
mod causal;
mod footprint;
mod pace;
mod plan;
mod reward;
mod sft;

pub use footprint::{Footprint, Load};
pub use pace::Pace;
pub use plan::{Body, Plan, Sizes, Trial};

use std::time::Duration;

use bpo_annotate::Annotator;
use bpo_data::{PromptOrder, Tokenizer};
use bpo_model::{Decoder, Error as ModelError};
use bpo_store::RowFile;

use crate::{
    Error, Inputs, Prepared, Recipe, Reference, RefreshSchedule, TrainPrompt, ensemble::Ensemble, prospect,
    run::members,
};

/// A run that is ready to begin and does not.
pub struct Rehearsal<'a> {
    recipe: &'a Recipe,
    base: Decoder,
    tokenizer: Tokenizer,
    ensemble: Ensemble,
    prompts: Prepared,
    total: u64,
    lines: Vec<String>,
}

impl<'a> Rehearsal<'a> {
    /// Checks what [`run`](fn@crate::run) checks before its first step.
    ///
    /// # Errors
    /// As [`run`](fn@crate::run).
    pub fn new(recipe: &'a Recipe, inputs: Inputs) -> Result<Self, Error> {
        recipe.validate()?;
        let Inputs { base, adapters, tokenizer, rows, references, mut annotator, .. } = inputs;
        let base = base.with_gradient_checkpointing(recipe.gradient_checkpointing);
        let context = base.config().max_position_embeddings;
        let train = RowFile::temporary();
        let prompts =
            crate::prepare(recipe, &tokenizer, context, rows, references.as_ref(), train, &mut crate::Silent)?;
        let total = recipe.steps(prompts.train.len());
        let ensemble = members(recipe, &base, adapters)?;
        for member in &ensemble.members {
            member.policy.model(&base)?;
        }
        recipe.check_annotator(annotator.score(&[]).is_some())?;
        let schedule = RefreshSchedule::new(recipe.collection_phases, total);
        let slope = recipe.objective()?.slope_at_the_reference(&base.device())?;
        let trainable = ensemble.members.iter().map(|member| member.policy.parameters().count()).sum();
        let lines = prospect::describe(recipe, &schedule, total, trainable, slope);
        Ok(Self { recipe, base, tokenizer, ensemble, prompts, total, lines })
    }

    /// What a run says when it begins: procedure and warnings.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Parameters that are trained, of all members.
    pub fn trainable(&self) -> usize {
        self.ensemble.members.iter().map(|member| member.policy.parameters().count()).sum()
    }

    /// How fast this machine does the first step: its prompts are sampled from and some of its pairs trained on, for about
    /// `budget`, and no weight is changed.
    ///
    /// # Errors
    /// From sampling and scoring; [`Error::NonFinite`] where the model's numbers are not finite.
    pub fn pace(&self, budget: Duration) -> Result<Pace, Error> {
        Pace::measured(self, budget)
    }

    /// The prompts of the first step.
    fn first_step(&self) -> Result<Vec<TrainPrompt>, Error> {
        let order = PromptOrder::new(self.prompts.train.len(), self.recipe.seed);
        Ok(self.prompts.train.some(order.at(0, self.recipe.prompts_per_step()))?)
    }

    /// The policy before the first step.
    fn policy(&self) -> Result<Decoder, ModelError> {
        self.ensemble.members[0].policy.model(&self.base)
    }
}

impl Recipe {
    /// Which policy the loss measures against, step by step, in words; `total` is the number of steps.
    pub fn reference_in_words(&self, total: u64) -> String {
        let schedule = RefreshSchedule::new(self.collection_phases, total);
        let moves: Vec<u64> = match self.reference {
            Reference::Initial => Vec::new(),
            Reference::Behaviour => (1..total).filter(|&step| schedule.due(step)).collect(),
            rule => (1..total).filter(|&step| rule.moves_at(step, self.ref_model_sync_steps)).collect(),
        };
        let how = match self.reference {
            Reference::Initial => return "the policy as it starts, at every step".to_owned(),
            Reference::Behaviour if moves.is_empty() => {
                return "the behaviour policy, which is the policy as it starts: it is never refreshed".to_owned();
            }
            Reference::Behaviour => "the behaviour policy, which becomes the policy".to_owned(),
            Reference::Ema => format!("moved {} of the way to the policy", self.ref_model_mixup_alpha),
            Reference::Every(_) => "a copy of the policy, taken anew".to_owned(),
        };
        match moves.len() as u64 {
            0 => format!("{how} never in {total} steps: it stays the policy as it starts"),
            count if count + 1 == total => format!("{how} before every step"),
            1 => format!("{how} once, after step {}", moves[0]),
            count => format!("{how} {count} times, after steps {}", shortened(&moves)),
        }
    }
}

/// A list of steps; a long one with its ends.
fn shortened(steps: &[u64]) -> String {
    const SHOWN: usize = 6;
    let list = |steps: &[u64]| steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match steps {
        [first @ .., last] if steps.len() > SHOWN => format!("{}, …, {last}", list(&first[..SHOWN - 2])),
        all => list(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CollectionPhases;

    #[test]
    fn the_reference_is_named_with_the_steps_at_which_it_changes() {
        let said = |reference, phases, total| {
            let recipe = Recipe {
                reference,
                collection_phases: CollectionPhases::Count(phases),
                ref_model_sync_steps: 50,
                ..Recipe::default()
            };
            recipe.reference_in_words(total)
        };
        assert_eq!(
            said(Reference::Behaviour, 2, 625),
            "the behaviour policy, which becomes the policy once, after step 313"
        );
        assert!(said(Reference::Behaviour, 4, 150).ends_with("3 times, after steps 38, 75, 113"));
        assert!(said(Reference::Behaviour, 1, 150).contains("never refreshed"));
        assert!(said(Reference::Behaviour, 150, 150).ends_with("before every step"));
        assert!(said(Reference::Initial, 2, 150).contains("as it starts"));
        assert!(said(Reference::Every(40), 2, 150).ends_with("3 times, after steps 40, 80, 120"));
        assert!(said(Reference::Ema, 2, 40).contains("never in 40 steps"));
        assert!(said(Reference::Every(1), 1, 10).ends_with("before every step"));
        assert!(said(Reference::Every(10), 1, 101).ends_with("10, 20, 30, 40, …, 100"));
    }
}
