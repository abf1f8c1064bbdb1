use crate::{
    Error, TokenStream,
    filter::{above, most_probable, nucleus},
    masses::{Masses, finite_max, pick},
};

/// How the next token is chosen from the model's distribution. The default is true ancestral sampling.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy decoding.
    pub temperature: f64,
    /// Keep only the k most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of most probable tokens whose mass reaches p; 1 keeps all.
    /// Holtzman et al. 2020, arXiv:1904.09751.
    pub top_p: f64,
    /// Keep tokens at least `min_p` times as probable as the most probable one; 0 keeps all.
    /// Nguyen et al. 2024, arXiv:2407.01082.
    pub min_p: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

/// Which tokens may be drawn.
#[derive(Debug, Clone, Copy)]
pub struct Admissible<'a> {
    /// Ids at and above this may not.
    pub below: usize,
    /// Nor may these.
    pub barred: &'a [u32],
}

impl Admissible<'_> {
    /// All ids below `below`.
    pub fn below(below: usize) -> Self {
        Self { below, barred: &[] }
    }
}

/// One chosen token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Its id.
    pub token: u32,
    /// Its log-prob under the model itself: temperature 1, nothing cut off.
    pub logp: f32,
}

impl Sampling {
    /// The most probable token, always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks the parameters' domains.
    ///
    /// # Errors
    /// [`Error::BadParameter`] naming the key.
    pub fn validate(&self) -> Result<(), Error> {
        let bad = |name, value, requirement| Err(Error::BadParameter { name, value, requirement });
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return bad("temperature", self.temperature, "must be a finite number, 0 (greedy) or above");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top_p", self.top_p, "must lie in (0, 1]");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("min_p", self.min_p, "must lie in [0, 1]");
        }
        Ok(())
    }

    /// Chooses an admissible token from one row of logits with one uniform number of `stream` (none when
    /// greedy). The recorded log-prob is normalised over the whole row, as scoring does. `None` when the
    /// logits hold NaN, +∞, or nothing admissible above −∞.
    ///
    /// Filters apply in the order of transformers: temperature, top-k, top-p, min-p. Barred tokens' logits
    /// are overwritten.
    pub fn draw(&self, logits: &mut [f32], admissible: Admissible<'_>, stream: &mut TokenStream) -> Option<Draw> {
        let highest = finite_max(logits)?;
        let mut masses = Masses::new(logits, highest, 1.0);
        let normaliser = f64::from(highest) + masses.total().ln();
        if normaliser.is_nan() {
            return None;
        }
        let open = logits.get_mut(..admissible.below)?;
        for &token in admissible.barred {
            if let Some(logit) = open.get_mut(token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let token = if self.temperature == 0.0 {
            let max = finite_max(open)?;
            open.iter().position(|&logit| logit == max)?
        } else if self.keeps_everything() {
            // At temperature 1 the normaliser's sums are the draw's, unless nearly all of the mass is inadmissible.
            masses.restrict(open, admissible.barred);
            if self.temperature != 1.0 || masses.total() < f64::EPSILON {
                masses = Masses::new(open, finite_max(open)?, self.scale());
            }
            masses.pick(open, stream.uniform())?
        } else {
            self.pick_filtered(open, stream.uniform())?
        };
        let logp = (f64::from(open[token]) - normaliser) as f32;
        Some(Draw { token: u32::try_from(token).ok()?, logp })
    }

    fn keeps_everything(&self) -> bool {
        self.top_k == 0 && self.top_p >= 1.0 && self.min_p == 0.0
    }

    /// 1 / temperature.
    fn scale(&self) -> f32 {
        (self.temperature as f32).clamp(f32::MIN_POSITIVE, f32::MAX).recip()
    }

    fn pick_filtered(&self, logits: &[f32], uniform: f64) -> Option<usize> {
        let max = finite_max(logits)?;
        let weight = |&(token, logit): &(usize, f32)| (token, (f64::from(logit - max) / self.temperature).exp());
        let mut kept: Vec<(usize, f64)> = if self.top_k > 0 && self.top_k < logits.len() {
            let kept: Vec<_> = most_probable(logits, self.top_k).iter().map(weight).collect();
            let mass = kept.iter().map(|k| k.1).sum::<f64>();
            if self.top_p < 1.0 { nucleus(kept, self.top_p * mass) } else { kept }
        } else if self.top_p < 1.0 {
            let mass = Masses::new(logits, max, self.scale()).total();
            // All the tokens below this one together do not reach 1 − p.
            let negligible = (1.0 - self.top_p) * mass / logits.len() as f64;
            let floor = self.logit_of(negligible.max(self.min_p), max);
            nucleus(above(logits, floor).iter().map(weight).collect(), self.top_p * mass)
        } else {
            above(logits, self.logit_of(self.min_p, max)).iter().map(weight).collect()
        };
        kept.retain(|k| k.1 >= self.min_p);
        kept.sort_unstable_by_key(|k| k.0);
        pick(kept.iter().map(|k| k.1), uniform).map(|index| kept[index].0)
    }

    /// A logit a little below the one of the given weight, relative to that of `max`.
    fn logit_of(&self, weight: f64, max: f32) -> f32 {
        (f64::from(max) + self.temperature * weight.ln() * (1.0 + 1e-3) - 1e-3) as f32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::StreamKey;

    fn stream(slot: u64) -> TokenStream {
        StreamKey { seed: 7, step: 0, prompt: 0, slot }.stream()
    }

    fn counts(sampling: &Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut stream = stream(0);
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampling.draw(&mut logits.to_vec(), Admissible::below(logits.len()), &mut stream).unwrap().token
                as usize] += 1;
        }
        counts
    }

    fn chi_square(counts: &[usize], probabilities: &[f64], draws: usize) -> f64 {
        counts
            .iter()
            .zip(probabilities)
            .filter(|(_, p)| **p > 0.0)
            .map(|(&count, p)| (count as f64 - p * draws as f64).powi(2) / (p * draws as f64))
            .sum()
    }

    fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
        let weights: Vec<f64> = logits.iter().map(|&z| (f64::from(z) / temperature).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    }

    const LOGITS: [f32; 6] = [0.3, -1.0, 1.2, 0.0, 2.0, -0.4];

    #[test]
    fn draws_follow_the_softmax_at_every_temperature() {
        for temperature in [0.5, 1.0, 2.0] {
            let sampling = Sampling { temperature, ..Sampling::default() };
            let counts = counts(&sampling, &LOGITS, 60_000);
            // 5 degrees of freedom: the 99.99th percentile is 25.7.
            let statistic = chi_square(&counts, &softmax(&LOGITS, temperature), 60_000);
            assert!(statistic < 25.7, "temperature {temperature}: {statistic} {counts:?}");
        }
    }

    #[test]
    fn filtered_draws_follow_the_renormalised_softmax() {
        let cases: [(Sampling, &[usize]); 3] = [
            (Sampling { top_k: 3, ..Sampling::default() }, &[4, 2, 0]),
            (Sampling { top_p: 0.7, ..Sampling::default() }, &[4, 2]),
            (Sampling { min_p: 0.13, ..Sampling::default() }, &[4, 2, 0, 3]),
        ];
        for (sampling, kept) in cases {
            let all = softmax(&LOGITS, 1.0);
            let mass: f64 = kept.iter().map(|&i| all[i]).sum();
            let expected: Vec<f64> =
                (0..LOGITS.len()).map(|i| if kept.contains(&i) { all[i] / mass } else { 0.0 }).collect();
            let counts = counts(&sampling, &LOGITS, 60_000);
            for (token, &count) in counts.iter().enumerate() {
                assert_eq!(count > 0, kept.contains(&token), "{sampling:?} {counts:?}");
            }
            let statistic = chi_square(&counts, &expected, 60_000);
            assert!(statistic < 25.7, "{sampling:?}: {statistic}");
        }
    }

    #[test]
    fn the_recorded_log_prob_is_untempered_and_unfiltered() {
        let sampling = Sampling { temperature: 0.3, top_k: 2, ..Sampling::default() };
        let draw = sampling.draw(&mut LOGITS.clone(), Admissible::below(LOGITS.len()), &mut stream(1)).unwrap();
        let expected = softmax(&LOGITS, 1.0)[draw.token as usize].ln();
        assert!((f64::from(draw.logp) - expected).abs() < 1e-6);
    }

    #[test]
    fn a_temperature_next_to_zero_is_greedy() {
        let sampling = Sampling { temperature: 1e-50, ..Sampling::default() };
        assert_eq!(
            sampling.draw(&mut LOGITS.clone(), Admissible::below(LOGITS.len()), &mut stream(3)).unwrap().token,
            4
        );
    }

    #[test]
    fn an_inadmissible_token_is_never_drawn_but_counts_in_the_log_prob() {
        let mut stream = stream(2);
        let admissible = [Admissible::below(3), Admissible { below: 6, barred: &[4, 1] }];
        for sampling in [Sampling::default(), Sampling { top_k: 2, ..Sampling::default() }, Sampling::greedy()] {
            for admissible in admissible {
                for _ in 0..200 {
                    let draw = sampling.draw(&mut LOGITS.clone(), admissible, &mut stream).unwrap();
                    let expected = softmax(&LOGITS, 1.0)[draw.token as usize].ln();
                    assert!((draw.token as usize) < admissible.below && !admissible.barred.contains(&draw.token));
                    assert!((f64::from(draw.logp) - expected).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn non_finite_logits_draw_nothing() {
        for logits in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2]] {
            assert_eq!(Sampling::default().draw(&mut logits.clone(), Admissible::below(2), &mut stream(0)), None);
            assert_eq!(Sampling::greedy().draw(&mut logits.clone(), Admissible::below(2), &mut stream(0)), None);
        }
    }

    proptest! {
        #[test]
        fn a_token_at_minus_infinity_is_never_drawn(
            logits in prop::collection::vec(-50.0f32..50.0, 2..30),
            slot in 0u64..1000,
            top_k in 0usize..5,
        ) {
            let mut logits = logits;
            logits[0] = f32::NEG_INFINITY;
            let sampling = Sampling { top_k, ..Sampling::default() };
            prop_assert_ne!(sampling.draw(&mut logits.clone(), Admissible::below(logits.len()), &mut stream(slot)).unwrap().token, 0);
        }

        #[test]
        fn greedy_takes_the_first_maximum(logits in prop::collection::vec(-9i8..9, 1..30)) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let expected = logits.iter().position(|&z| z == max).unwrap();
            prop_assert_eq!(Sampling::greedy().draw(&mut logits.clone(), Admissible::below(logits.len()), &mut stream(0)).unwrap().token as usize, expected);
        }
    }
}
