//! One row of logits as probabilities: a pass for the maximum and one for the exponentials, both in lanes that the
//! compiler vectorises, and a draw that looks at one block of the row.

/// Partial sums of a row.
const BLOCKS: usize = 256;
/// Independent accumulators of a pass.
const LANES: usize = 8;

/// The largest logit, NaN aside; `None` unless it is finite.
pub(crate) fn finite_max(logits: &[f32]) -> Option<f32> {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let larger = |max: f32, logit: f32| if logit > max { logit } else { max };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, logit);
        }
    }
    let max = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger);
    max.is_finite().then_some(max)
}

/// Unnormalised probabilities exp((logit − max) · scale) of a row, summed by blocks.
pub(crate) struct Masses {
    sums: [f64; BLOCKS],
    /// Logits per block.
    block: usize,
    max: f32,
    scale: f32,
}

impl Masses {
    /// Of all of `logits`, none above `max`; a NaN among them makes the total NaN.
    pub fn new(logits: &[f32], max: f32, scale: f32) -> Self {
        let block = logits.len().div_ceil(BLOCKS).max(1);
        let mut masses = Self { sums: [0.0; BLOCKS], block, max, scale };
        for (index, block) in logits.chunks(block).enumerate() {
            masses.sums[index] = masses.of_block(block);
        }
        masses
    }

    /// Σ over the row.
    pub fn total(&self) -> f64 {
        self.sums.iter().sum()
    }

    /// Sums again what has changed: the row now ends where `logits` does, and the logits of `changed` are others.
    pub fn restrict(&mut self, logits: &[f32], changed: &[u32]) {
        let end = logits.len() / self.block;
        self.sums[(end + 1).min(BLOCKS)..].fill(0.0);
        let blocks = changed.iter().map(|&token| token as usize / self.block).filter(|&block| block < end);
        for index in blocks.chain([end]).filter(|&index| index < BLOCKS) {
            let start = index * self.block;
            self.sums[index] = self.of_block(&logits[start..logits.len().min(start + self.block)]);
        }
    }

    /// Inverse-CDF draw from the row that was summed, `None` when nothing of it has any mass.
    pub fn pick(&self, logits: &[f32], uniform: f64) -> Option<usize> {
        let (block, before) = locate(self.sums.iter().copied(), uniform * self.total())?;
        let start = block * self.block;
        let block = logits.get(start..)?.iter().take(self.block);
        let weights = block.map(|&logit| f64::from(self.weight(logit)));
        locate(weights, uniform * self.total() - before).map(|(index, _)| start + index)
    }

    fn weight(&self, logit: f32) -> f32 {
        exp((logit - self.max) * self.scale)
    }

    fn of_block(&self, logits: &[f32]) -> f64 {
        let (chunks, rest) = logits.as_chunks::<LANES>();
        // In f32: a lane of a block has so few terms that rounding them is below that of the exponentials.
        let mut lanes = [0.0f32; LANES];
        for chunk in chunks {
            for (lane, &logit) in lanes.iter_mut().zip(chunk) {
                *lane += self.weight(logit);
            }
        }
        let rest = rest.iter().map(|&logit| self.weight(logit));
        lanes.into_iter().chain(rest).map(f64::from).sum()
    }
}

/// Inverse-CDF draw from unnormalised weights.
pub(crate) fn pick(weights: impl Iterator<Item = f64> + Clone, uniform: f64) -> Option<usize> {
    let target = uniform * weights.clone().sum::<f64>();
    locate(weights, target).map(|(index, _)| index)
}

/// The weight whose running sum passes `target`, or the last positive one, and the sum before it.
fn locate(weights: impl Iterator<Item = f64>, target: f64) -> Option<(usize, f64)> {
    let (mut reached, mut last) = (0.0, None);
    for (index, weight) in weights.enumerate().filter(|&(_, weight)| weight > 0.0) {
        last = Some((index, reached));
        reached += weight;
        if reached > target {
            break;
        }
    }
    last
}

/// eˣ for x ≤ 0 to 1.5 units in the last place, 0 below −87; without branches, calls or tables, so that a loop of it is
/// vectorised on any CPU. Degree and coefficients are those of Cephes' `expf`.
fn exp(x: f32) -> f32 {
    const SMALLEST: f32 = -87.0;
    // Adding 1.5 · 2²³ rounds to an integer, which is then in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < SMALLEST { SMALLEST } else { x };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_2e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = p * r + coefficient;
    }
    let power_of_two = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let value = (p * r * r + r + 1.0) * power_of_two;
    if x < SMALLEST { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exponentials_are_those_of_the_standard_library(x in -86.9f32..=0.0) {
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            prop_assert!((ours / exact - 1.0).abs() < 1.8e-7, "{x}: {ours} {exact}");
        }

        #[test]
        fn a_row_summed_again_in_part_is_the_row_summed_anew(
            logits in prop::collection::vec(-9f32..9.0, 1..2000),
            share in 0.0..1.0f64,
            changed in prop::collection::vec(0u32..2000, 0..4),
        ) {
            let mut logits = logits;
            let mut masses = Masses::new(&logits, 9.0, 1.0);
            logits.truncate((logits.len() as f64 * share) as usize);
            for &token in &changed {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            masses.restrict(&logits, &changed);
            let exact: f64 = logits.iter().map(|&z| f64::from(z - 9.0).exp()).sum();
            prop_assert!((masses.total() - exact).abs() <= 1e-6 * exact);
        }

        #[test]
        fn a_pick_is_the_inverse_of_the_cumulative_distribution(
            logits in prop::collection::vec(-9f32..0.0, 1..2000),
            uniform in 0.0..1.0f64,
        ) {
            let picked = Masses::new(&logits, 0.0, 1.0).pick(&logits, uniform).unwrap();
            let weight = |&z: &f32| f64::from(z).exp();
            let total: f64 = logits.iter().map(weight).sum();
            let before: f64 = logits[..picked].iter().map(weight).sum();
            let after = before + weight(&logits[picked]);
            prop_assert!(before / total <= uniform + 1e-6 && uniform <= after / total + 1e-6);
        }
    }

    #[test]
    fn exponentials_end_in_zero_and_keep_nan() {
        assert_eq!([exp(0.0), exp(-87.1), exp(f32::NEG_INFINITY)], [1.0, 0.0, 0.0]);
        assert!(exp(f32::NAN).is_nan());
    }
}
