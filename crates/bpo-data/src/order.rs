//! Which prompts a step sees: a pure function of seed and step.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The order of `n` prompts: a fresh permutation each epoch, keyed by seed and epoch.
///
/// Nothing is remembered between calls, so a resumed run sees what an uninterrupted one sees.
///
/// ```
/// use bpo_data::PromptOrder;
///
/// let order = PromptOrder::new(10, 7);
/// let mut first_epoch = [order.at(0, 5), order.at(1, 5)].concat();
/// first_epoch.sort_unstable();
/// assert_eq!(first_epoch, (0..10).collect::<Vec<_>>());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptOrder {
    n: usize,
    seed: u64,
}

impl PromptOrder {
    /// The order of `n` prompts under `seed`.
    pub fn new(n: usize, seed: u64) -> Self {
        Self { n, seed }
    }

    /// The indices of the `batch` prompts of `step` (0-based); empty if there are no prompts.
    ///
    /// Steps of one batch size walk through the epochs without gaps: a batch at the end of an
    /// epoch goes on into the next, and no prompt comes twice within an epoch.
    pub fn at(&self, step: u64, batch: usize) -> Vec<usize> {
        let mut picked = Vec::with_capacity(if self.n == 0 { 0 } else { batch });
        let (mut epoch, mut offset) = self.position(step, batch);
        while self.n > 0 && picked.len() < batch {
            let permutation = self.permutation(epoch);
            let missing = batch - picked.len();
            picked.extend(permutation.into_iter().skip(offset).take(missing));
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

    /// Fisher–Yates over `0..n`.
    fn permutation(&self, epoch: u64) -> Vec<usize> {
        let mut rng = ChaCha8Rng::from_seed(key(self.seed, epoch));
        let mut order: Vec<usize> = (0..self.n).collect();
        for last in (1..self.n).rev() {
            order.swap(last, below(&mut rng, last as u64 + 1) as usize);
        }
        order
    }
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
