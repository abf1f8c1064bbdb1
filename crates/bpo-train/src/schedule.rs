use crate::{CollectionPhases, LrScheduler};

/// When the behaviour policy is refreshed: F times in T steps or every so many steps, the start included.
///
/// Xu et al. 2024, arXiv:2406.12168, section 3: the behaviour becomes the policy every K = T/F steps.
/// F = 1 is offline, F = T on-policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshSchedule(Rule);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Phases { phases: u64, steps: u64 },
    Interval { interval: u64, steps: u64 },
}

impl RefreshSchedule {
    /// `phases` of data collection in `steps` steps; more phases than steps are one per step. Where F does not
    /// divide T, phases differ by one step at most.
    pub fn new(phases: CollectionPhases, steps: u64) -> Self {
        let steps = steps.max(1);
        let phases = match phases {
            CollectionPhases::EveryStep => steps,
            CollectionPhases::Count(phases) => phases.clamp(1, steps),
        };
        Self(Rule::Phases { phases, steps })
    }

    /// A refresh at every multiple of `interval`, which counts as 1 when it is 0: `sampling_update_step` of the
    /// code released with the paper. Where it does not divide `steps`, the last phase is shorter.
    pub fn every(interval: u64, steps: u64) -> Self {
        Self(Rule::Interval { interval: interval.max(1), steps: steps.max(1) })
    }

    /// Whether the behaviour is refreshed before this step is sampled.
    pub fn due(&self, step: u64) -> bool {
        step == 0 || self.phase(step) != self.phase(step - 1)
    }

    /// The data-collection phase a step lies in, from 0.
    pub fn phase(&self, step: u64) -> u64 {
        match self.0 {
            Rule::Phases { phases, steps } => {
                let phase = u128::from(step) * u128::from(phases) / u128::from(steps);
                u64::try_from(phase).unwrap_or(u64::MAX)
            }
            Rule::Interval { interval, .. } => step / interval,
        }
    }

    /// F: how many phases there are.
    pub fn phases(&self) -> u64 {
        match self.0 {
            Rule::Phases { phases, .. } => phases,
            Rule::Interval { interval, steps } => steps.div_ceil(interval),
        }
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
        let course = self.total.saturating_sub(self.warmup).max(1) as f64;
        let done = (step - self.warmup) as f64 / course;
        let share = match self.scheduler {
            LrScheduler::Constant => 1.0,
            LrScheduler::Linear => self.total.saturating_sub(step) as f64 / course,
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

    #[test]
    fn the_linear_rate_stays_at_zero_once_it_is_there() {
        let rate = LearningRate { peak: 1.0, scheduler: LrScheduler::Linear, warmup: 0, total: 156 };
        assert_eq!([155, 156, 157].map(|step| rate.at(step) > 0.0), [true, false, false]);
    }

    proptest! {
        #[test]
        fn every_interval_is_a_phase_of_its_length(interval in 1u64..50, steps in 1u64..500) {
            let schedule = RefreshSchedule::every(interval, steps);
            let refreshes: Vec<u64> = (0..steps).filter(|&step| schedule.due(step)).collect();
            prop_assert_eq!(refreshes.len() as u64, schedule.phases());
            let multiple = |(phase, &step): (u64, &u64)| step == phase * interval && schedule.phase(step) == phase;
            prop_assert!((0..).zip(&refreshes).all(multiple));
            if steps % interval == 0 {
                let phases = RefreshSchedule::new(CollectionPhases::Count(steps / interval), steps);
                prop_assert!((0..steps).all(|step| phases.phase(step) == schedule.phase(step)));
            }
        }

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
