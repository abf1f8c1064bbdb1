//! Elementary functions and reductions written so that the compiler vectorises them under `pulp`'s dispatch.

/// eˣ to 2 units in the last place of f32; 0 below −87.3 (where e^x leaves the normal numbers), e^88.3 from there on.
/// Cephes' polynomial, without a branch.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// 1.5 · 2²³: adding it rounds to the nearest integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.3, 88.3);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + c;
    }
    let mantissa = p * r * r + r + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.3 { 0.0 } else { mantissa * scale }
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Partial sums kept side by side.
const LANES: usize = 32;

/// Folds `f(i)` for `i < length` into `LANES` partial results, then those into one.
#[inline(always)]
fn fold(length: usize, start: f32, f: impl Fn(usize) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let whole = length / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (lane, value) in lanes.iter_mut().enumerate() {
            *value = join(*value, f(i + lane));
        }
        i += LANES;
    }
    let mut result = start;
    for lane in lanes {
        result = join(result, lane);
    }
    for i in whole..length {
        result = join(result, f(i));
    }
    result
}

/// Σ a·b of two slices of one length.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    fold(length, 0.0, |i| a[i] * b[i], |x, y| x + y)
}

/// The largest element; −∞ of none. NaN wins.
#[inline(always)]
pub fn max(values: &[f32]) -> f32 {
    let larger = |x: f32, y: f32| if y > x || y.is_nan() { y } else { x };
    fold(values.len(), f32::NEG_INFINITY, |i| values[i], larger)
}

/// Replaces every element by e^(element − shift) and returns their sum.
#[inline(always)]
pub fn exp_in_place(values: &mut [f32], shift: f32) -> f64 {
    let mut sum = 0.0;
    for block in values.chunks_mut(1024) {
        for value in block.iter_mut() {
            *value = exp(*value - shift);
        }
        sum += f64::from(fold(block.len(), 0.0, |i| block[i], |x, y| x + y));
    }
    sum
}
