//! Which prompts a step sees: a pure function of seed and step.

use std::sync::{Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The order of `n` prompts: a fresh permutation each epoch, keyed by seed and epoch.
///
/// What a call answers depends on no other call, so a resumed run sees what an uninterrupted one sees. The permutation of
/// the last epoch asked for is kept: of millions of prompts it takes longer than a step.
///
/// ```
/// use bpo_data::PromptOrder;
///
/// let order = PromptOrder::new(10, 7);
/// let mut first_epoch = [order.at(0, 5), order.at(1, 5)].concat();
/// first_epoch.sort_unstable();
/// assert_eq!(first_epoch, (0..10).collect::<Vec<_>>());
/// ```
#[derive(Debug)]
pub struct PromptOrder {
    n: usize,
    seed: u64,
    /// An epoch and its permutation.
    last: Mutex<Option<(u64, Permutation)>>,
}

/// `0..n` in another order.
#[derive(Debug)]
enum Permutation {
    /// Up to 2³² of them, in half the memory.
    Narrow(Vec<u32>),
    Wide(Vec<usize>),
}

impl Permutation {
    fn at(&self, index: usize) -> Option<usize> {
        match self {
            Self::Narrow(order) => order.get(index).map(|&prompt| prompt as usize),
            Self::Wide(order) => order.get(index).copied(),
        }
    }
}

impl PromptOrder {
    /// The order of `n` prompts under `seed`.
    pub fn new(n: usize, seed: u64) -> Self {
        Self { n, seed, last: Mutex::new(None) }
    }

    /// The indices of the `batch` prompts of `step` (0-based); empty if there are no prompts.
    ///
    /// Steps of one batch size walk through the epochs without gaps: a batch at the end of an
    /// epoch goes on into the next, and no prompt comes twice within an epoch.
    pub fn at(&self, step: u64, batch: usize) -> Vec<usize> {
        let mut picked = Vec::with_capacity(if self.n == 0 { 0 } else { batch });
        let (mut epoch, mut offset) = self.position(step, batch);
        while self.n > 0 && picked.len() < batch {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let permutation = match last.take() {
                Some((of, permutation)) if of == epoch => permutation,
                _ => self.permutation(epoch),
            };
            let end = offset.saturating_add(batch - picked.len()).min(self.n);
            picked.extend((offset..end).filter_map(|index| permutation.at(index)));
            *last = Some((epoch, permutation));
            (epoch, offset) = (epoch.wrapping_add(1), 0);
        }
        picked
    }

    /// The epoch (0-based) in which the first prompt of `step` lies.
    pub fn epoch_of(&self, step: u64, batch: usize) -> u64 {
        self.position(step, batch).0
    }

    /// Epoch and offset of the first prompt of a step.
    fn position(&self, step: u64, batch: usize) -> (u64, usize) {
        let first = u128::from(step) * batch as u128;
        let n = self.n.max(1) as u128;
        ((first / n).min(u128::from(u64::MAX)) as u64, (first % n) as usize)
    }

    fn permutation(&self, epoch: u64) -> Permutation {
        let mut rng = ChaCha8Rng::from_seed(key(self.seed, epoch));
        match u32::try_from(self.n) {
            Ok(n) => Permutation::Narrow(shuffled((0..n).collect(), &mut rng)),
            Err(_) => Permutation::Wide(shuffled((0..self.n).collect(), &mut rng)),
        }
    }
}

/// Fisher–Yates.
fn shuffled<T>(mut order: Vec<T>, rng: &mut ChaCha8Rng) -> Vec<T> {
    for last in (1..order.len()).rev() {
        order.swap(last, below(rng, last as u64 + 1) as usize);
    }
    order
}

/// A ChaCha key that no other use of the same seed shares.
fn key(seed: u64, epoch: u64) -> [u8; 32] {
    let mut key = *b"................bpo prompt order";
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key
}

/// A uniform draw from `0..bound` without modulo bias (Lemire 2019, arXiv:1805.10941).
fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        if product as u64 >= bound.wrapping_neg() % bound {
            return (product >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_epoch_holds_every_prompt_once(n in 1_usize..40, seed: u64, batch in 1_usize..60) {
            let order = PromptOrder::new(n, seed);
            let steps = (3 * n).div_ceil(batch) as u64;
            let walked: Vec<usize> = (0..steps).flat_map(|step| order.at(step, batch)).collect();
            prop_assert_eq!(walked.len(), steps as usize * batch);
            for epoch in walked.chunks_exact(n) {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..n).collect::<Vec<_>>());
            }
        }

        #[test]
        fn the_batch_size_does_not_change_the_walk(n in 1_usize..30, seed: u64, batch in 1_usize..9) {
            let order = PromptOrder::new(n, seed);
            let ones: Vec<usize> = (0..3 * batch as u64).flat_map(|step| order.at(step, 1)).collect();
            let batches: Vec<usize> = (0..3).flat_map(|step| order.at(step, batch)).collect();
            prop_assert_eq!(ones, batches);
        }

        #[test]
        fn what_was_asked_before_does_not_change_the_answer(n in 1_usize..30, seed: u64, steps in prop::collection::vec(0_u64..40, 1..9)) {
            let order = PromptOrder::new(n, seed);
            for step in steps {
                prop_assert_eq!(order.at(step, 4), PromptOrder::new(n, seed).at(step, 4));
            }
        }

        #[test]
        fn any_step_is_answered(n in 0_usize..20, seed: u64, step: u64, batch in 0_usize..20) {
            let order = PromptOrder::new(n, seed);
            prop_assert_eq!(order.at(step, batch).len(), if n == 0 { 0 } else { batch });
            prop_assert!(order.at(step, batch).iter().all(|&index| index < n));
        }
    }

    #[test]
    fn the_order_never_changes_between_versions() {
        let order = PromptOrder::new(8, 42);
        assert_eq!(order.at(0, 8), [0, 3, 6, 2, 1, 5, 7, 4]);
        assert_eq!(order.at(1, 8), [7, 0, 2, 3, 6, 4, 1, 5]);
    }

    #[test]
    fn epochs_are_counted_by_their_first_prompt() {
        let order = PromptOrder::new(10, 0);
        let epochs: Vec<u64> = (0..6).map(|step| order.epoch_of(step, 4)).collect();
        assert_eq!(epochs, [0, 0, 0, 1, 1, 2]);
        assert_eq!(PromptOrder::new(0, 0).epoch_of(3, 4), 12);
    }
}
