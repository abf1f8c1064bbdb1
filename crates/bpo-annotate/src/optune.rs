//! OPTune (Chen et al. 2024, arXiv:2406.07657): which prompts to sample anew, and how much each pair weighs.
//!
//! The paper leaves the ranking key open and its code is not public. The mean reward of a prompt's pair as the key
//! and the logistic weight are the usual reading.

/// Indices, in rising order, of the ⌊fraction · n⌋ lowest of n `scores`: the prompts to sample anew. Of equal
/// scores the earlier goes first; a NaN goes last. `fraction` is clamped to [0, 1].
pub fn lowest_fraction(scores: &[f64], fraction: f64) -> Vec<usize> {
    let count = (fraction.clamp(0.0, 1.0) * scores.len() as f64).floor() as usize;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (scores[a], scores[b]);
        a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
    });
    order.truncate(count);
    order.sort_unstable();
    order
}

/// What a pair weighs in the loss: `σ(beta2 · gap)`, `gap` being the chosen score less the rejected one.
pub fn gap_weight(gap: f64, beta2: f64) -> f64 {
    1.0 / (1.0 + (-beta2 * gap).exp())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn no_score_left_out_is_lower_than_one_taken(scores in vec(-3i8..4, 0..12), fraction in 0.0f64..1.0) {
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let lowest = lowest_fraction(&scores, fraction);
            prop_assert_eq!(lowest.len(), (fraction * scores.len() as f64) as usize);
            prop_assert!(lowest.windows(2).all(|pair| pair[0] < pair[1]));
            for left_out in (0..scores.len()).filter(|index| !lowest.contains(index)) {
                prop_assert!(lowest.iter().all(|&taken| scores[taken] <= scores[left_out]));
            }
        }

        #[test]
        fn a_weight_and_that_of_the_turned_pair_add_up_to_one(gap in -200.0f64..200.0, beta2 in 0.0f64..10.0) {
            let sum = gap_weight(gap, beta2) + gap_weight(-gap, beta2);
            prop_assert!((sum - 1.0).abs() < 1e-15);
        }
    }

    #[test]
    fn a_prompt_without_a_score_goes_last() {
        assert_eq!(lowest_fraction(&[f64::NAN, 2.0, 1.0], 2.0 / 3.0), [1, 2]);
        assert_eq!(lowest_fraction(&[f64::NAN], 7.0), [0]);
        assert_eq!(lowest_fraction(&[1.0], f64::NAN), [0; 0]);
    }

    #[test]
    fn equal_scores_weigh_half() {
        assert_eq!(gap_weight(0.0, 3.0), 0.5);
        assert_eq!(gap_weight(f64::INFINITY, 1.0), 1.0);
    }
}
