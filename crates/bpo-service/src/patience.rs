//! How long to wait for an answer, and how often to ask.

use std::time::Duration;

/// The most tries of one question.
pub const MOST_TRIES: u32 = 4;

/// Deadlines and tries of one service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patience {
    /// For one try: connecting, sending and the whole reply.
    pub one_try: Duration,
    /// For one question, all tries and the waits between them.
    pub question: Duration,
    /// For all questions that are asked together.
    pub batch: Duration,
    /// Tries of one question, from 1 to [`MOST_TRIES`].
    pub tries: u32,
    /// Wait before the second try; it doubles each time.
    pub backoff: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            one_try: Duration::from_secs(60),
            question: Duration::from_secs(180),
            batch: Duration::from_secs(1800),
            tries: MOST_TRIES,
            backoff: Duration::from_millis(500),
        }
    }
}

impl Patience {
    /// The wait after try `tried` (from 0): what the server asked for, and else between half and all of a time that
    /// doubles with each try. `salt` spreads those who failed together; it decides nothing else.
    pub fn wait(&self, tried: u32, asked_for: Option<Duration>, salt: u64) -> Duration {
        let whole = self.backoff.saturating_mul(1 << tried.min(16));
        let jittered = whole.mul_f64(0.5 + (salt >> 11) as f64 / (1u64 << 54) as f64);
        match asked_for {
            // Nobody comes back before the time, and not all at the same moment after it.
            Some(asked_for) => asked_for.saturating_add(jittered.saturating_sub(whole / 2)),
            None => jittered,
        }
    }

    /// Whether a status is worth another try: the request was sound, the moment was not.
    pub fn is_passing(status: u16) -> bool {
        matches!(status, 408 | 429 | 500..=599)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_double_with_jitter_and_never_undercut_the_server(tried in 0u32..8, salt: u64, asked in 0u64..100) {
            let patience = Patience::default();
            let whole = patience.backoff * 2u32.pow(tried);
            let wait = patience.wait(tried, None, salt);
            prop_assert!(wait >= whole / 2 && wait <= whole);
            let asked = Duration::from_secs(asked);
            let wait = patience.wait(tried, Some(asked), salt);
            prop_assert!(wait >= asked && wait <= asked + whole);
        }
    }

    #[test]
    fn only_passing_faults_are_tried_again() {
        let passing: Vec<u16> = (100..600).filter(|&status| Patience::is_passing(status)).collect();
        assert_eq!(passing[..2], [408, 429]);
        assert_eq!((passing[2], passing.len()), (500, 102));
    }
}
