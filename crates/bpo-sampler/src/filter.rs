//! What top-k, top-p and min-p keep, found by partial selection: no row is ever sorted as a whole.
use std::cmp::Ordering;

/// A token and its logit or weight.
type Scored<T> = (usize, T);

/// The tokens whose logit is at least `floor`.
pub(crate) fn above(logits: &[f32], floor: f32) -> Vec<Scored<f32>> {
    logits.iter().copied().enumerate().filter(|&(_, logit)| logit >= floor).collect()
}

/// The `k` tokens of the largest logits, in no order; of equal ones the lower ids.
pub(crate) fn most_probable(logits: &[f32], k: usize) -> Vec<Scored<f32>> {
    let mut kept: Vec<Scored<f32>> = Vec::with_capacity(2 * k);
    // Later tokens have higher ids, so one that only equals the k-th of those before is not among the first k.
    let mut floor = f32::NEG_INFINITY;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > floor {
            kept.push((token, logit));
            if kept.len() == 2 * k {
                keep_largest(&mut kept, k);
                floor = kept[k - 1].1;
            }
        }
    }
    keep_largest(&mut kept, k);
    kept
}

/// The smallest set of largest weights whose sum reaches `mass`.
pub(crate) fn nucleus(mut weights: Vec<Scored<f64>>, mass: f64) -> Vec<Scored<f64>> {
    let (mut size, mut reached, mut step) = (0, 0.0, 64);
    while size < weights.len() {
        let rest = &mut weights[size..];
        let next = step.min(rest.len());
        if next < rest.len() {
            rest.select_nth_unstable_by(next - 1, falling);
        }
        rest[..next].sort_unstable_by(falling);
        for &(_, weight) in &rest[..next] {
            size += 1;
            reached += weight;
            if reached >= mass {
                weights.truncate(size);
                return weights;
            }
        }
        step *= 2;
    }
    weights
}

/// Leaves the first `k` in falling order, the k-th last.
fn keep_largest(scored: &mut Vec<Scored<f32>>, k: usize) {
    if k < scored.len() {
        scored.select_nth_unstable_by(k - 1, falling);
        scored.truncate(k);
    }
}

/// Largest first; ties break towards the lower id, so that what is kept does not depend on the selection.
fn falling<T: PartialOrd>(a: &Scored<T>, b: &Scored<T>) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted<T: PartialOrd + Copy>(values: &[T]) -> Vec<Scored<T>> {
        let mut all: Vec<Scored<T>> = values.iter().copied().enumerate().collect();
        all.sort_by(falling);
        all
    }

    proptest! {
        #[test]
        fn the_most_probable_are_the_first_of_the_sorted(logits in prop::collection::vec(-9i8..9, 1..300), k in 1usize..40) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let mut kept = most_probable(&logits, k);
            kept.sort_by(falling);
            prop_assert_eq!(kept, &sorted(&logits)[..k.min(logits.len())]);
        }

        #[test]
        fn a_nucleus_is_the_shortest_sorted_prefix_of_the_mass(
            weights in prop::collection::vec(0u8..99, 1..500),
            mass in 1.0f64..20_000.0,
        ) {
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let all = sorted(&weights);
            let sum = |size: usize| all[..size].iter().map(|w| w.1).sum::<f64>();
            let size = (1..all.len()).find(|&size| sum(size) >= mass).unwrap_or(all.len());
            prop_assert_eq!(nucleus(weights.into_iter().enumerate().collect(), mass), &all[..size]);
        }
    }
}
