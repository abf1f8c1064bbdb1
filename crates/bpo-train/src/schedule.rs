use crate::{CollectionPhases, LrScheduler};

/// When the behaviour policy is refreshed: F times in T steps, the start included.
///
/// Xu et al. 2024, arXiv:2406.12168, section 3: the behaviour becomes the policy every K = T/F steps.
/// F = 1 is offline, F = T on-policy. Where F does not divide T, phases differ by one step at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshSchedule {
    phases: u64,
    steps: u64,
}

impl RefreshSchedule {
    /// `phases` of data collection in `steps` steps; more phases than steps are one per step.
    pub fn new(phases: CollectionPhases, steps: u64) -> Self {
        let steps = steps.max(1);
        let phases = match phases {
            CollectionPhases::EveryStep => steps,
            CollectionPhases::Count(phases) => phases.clamp(1, steps),
        };
        Self { phases, steps }
    }

    /// Whether the behaviour is refreshed before this step is sampled.
    pub fn due(&self, step: u64) -> bool {
        step == 0 || self.phase(step) != self.phase(step - 1)
    }

    /// The data-collection phase a step lies in, from 0.
    pub fn phase(&self, step: u64) -> u64 {
        let phase = u128::from(step) * u128::from(self.phases) / u128::from(self.steps);
        u64::try_from(phase).unwrap_or(u64::MAX)
    }

    /// F: how many phases there are.
    pub fn phases(&self) -> u64 {
        self.phases
    }
}

/// The learning rate by step, as transformers' schedules have it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// Highest rate.
    pub peak: f64,
    /// Its course after warm-up.
    pub scheduler: LrScheduler,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Steps in all.
    pub total: u64,
}

impl LearningRate {
    /// Rate of step `step` (from 0).
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / self.warmup.max(1) as f64;
        }
        let left = self.total.saturating_sub(self.warmup).max(1) as f64;
        let done = (step - self.warmup) as f64 / left;
        let share = match self.scheduler {
            LrScheduler::Constant => 1.0,
            LrScheduler::Linear => 1.0 - done,
            LrScheduler::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.peak * share.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_papers_schedules() {
        let refreshes = |phases, steps| {
            let schedule = RefreshSchedule::new(phases, steps);
            (0..steps).filter(|&step| schedule.due(step)).collect::<Vec<_>>()
        };
        assert_eq!(refreshes(CollectionPhases::Count(1), 625), [0]);
        assert_eq!(refreshes(CollectionPhases::Count(2), 625), [0, 313]);
        assert_eq!(refreshes(CollectionPhases::EveryStep, 625).len(), 625);
    }

    #[test]
    fn the_linear_rate_ends_at_zero_and_warm_up_starts_there() {
        let rate = LearningRate { peak: 2.0, scheduler: LrScheduler::Linear, warmup: 4, total: 12 };
        assert_eq!([0, 2, 4, 8, 12].map(|step| rate.at(step)), [0.0, 1.0, 2.0, 1.0, 0.0]);
    }

    proptest! {
        #[test]
        fn there_are_exactly_f_phases_of_nearly_equal_length(phases in 1u64..50, steps in 1u64..500) {
            let schedule = RefreshSchedule::new(CollectionPhases::Count(phases), steps);
            let refreshes: Vec<u64> = (0..steps).filter(|&step| schedule.due(step)).collect();
            prop_assert_eq!(refreshes.len() as u64, phases.min(steps));
            prop_assert_eq!(refreshes[0], 0);
            let ends = refreshes.iter().skip(1).copied().chain([steps]);
            let lengths: Vec<u64> = refreshes.iter().zip(ends).map(|(start, end)| end - start).collect();
            prop_assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1);
        }
    }
}
