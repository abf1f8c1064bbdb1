//! Row-wise and element-wise kernels: RMS norm, SwiGLU, rotary positions, softmax of target rows.
use super::{
    math,
    parallel::{self, Shared},
};

/// Elements that make a second thread worth waking.
const GRAIN: usize = 1 << 15;

/// Runs a block for ranges of rows of a width.
macro_rules! rows {
    ($rows:expr, $width:expr, |$range:ident| $work:expr) => {
        parallel::ranges($rows, GRAIN.div_ceil($width.max(1)), |$range| vectorised!($work))
    };
}

/// `out ← x / √(mean(x²) + ε) · weight`, row by row.
pub fn rms_norm(out: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32) {
    let width = weight.len();
    let out = Shared::new(out);
    rows!(x.len() / width, width, |range| {
        for row in range {
            let part = row * width..(row + 1) * width;
            // SAFETY: ranges of different threads are disjoint.
            let (x, out) = (&x[part.clone()], unsafe { out.part(part) });
            let scale = inverse_rms(x, epsilon);
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * weight;
            }
        }
    });
}

#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (math::dot(x, x) / x.len() as f32 + epsilon).sqrt()
}

/// Gradient in `x`: `s·(w·g) − x·s³/n·Σ(w·g·x)` with `s` the inverse root mean square.
pub fn rms_norm_backward(dx: &mut [f32], gradient: &[f32], x: &[f32], weight: &[f32], epsilon: f32) {
    let width = weight.len();
    let dx = Shared::new(dx);
    rows!(x.len() / width, width, |range| {
        for row in range {
            let part = row * width..(row + 1) * width;
            // SAFETY: ranges of different threads are disjoint.
            let (x, gradient, dx) = (&x[part.clone()], &gradient[part.clone()], unsafe { dx.part(part) });
            let scale = inverse_rms(x, epsilon);
            for ((dx, gradient), weight) in dx.iter_mut().zip(gradient).zip(weight) {
                *dx = gradient * weight;
            }
            let pull = math::dot(dx, x) * scale * scale * scale / width as f32;
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = *dx * scale - x * pull;
            }
        }
    });
}

/// Gradient in the weight: `Σ_rows g·x·s`.
pub fn rms_norm_weight_gradient(dw: &mut [f32], gradient: &[f32], x: &[f32], epsilon: f32) {
    let width = dw.len();
    dw.fill(0.0);
    vectorised!({
        for (x, gradient) in x.chunks_exact(width).zip(gradient.chunks_exact(width)) {
            let scale = inverse_rms(x, epsilon);
            for ((dw, x), gradient) in dw.iter_mut().zip(x).zip(gradient) {
                *dw += gradient * x * scale;
            }
        }
    });
}

/// `out ← silu(gate) · up`.
pub fn swiglu(out: &mut [f32], gate: &[f32], up: &[f32]) {
    assert!(out.len() == gate.len() && gate.len() == up.len(), "sizes of swiglu");
    let out = Shared::new(out);
    rows!(gate.len(), 1, |range| {
        // SAFETY: ranges of different threads are disjoint.
        let (out, gate, up) = (unsafe { out.part(range.clone()) }, &gate[range.clone()], &up[range]);
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * math::sigmoid(*gate) * up;
        }
    });
}

/// Gradients in gate and up.
pub fn swiglu_backward(d_gate: &mut [f32], d_up: &mut [f32], gradient: &[f32], gate: &[f32], up: &[f32]) {
    let (d_gate, d_up) = (Shared::new(d_gate), Shared::new(d_up));
    rows!(gate.len(), 1, |range| {
        // SAFETY: ranges of different threads are disjoint.
        let (d_gate, d_up) = unsafe { (d_gate.part(range.clone()), d_up.part(range.clone())) };
        let (gradient, gate, up) = (&gradient[range.clone()], &gate[range.clone()], &up[range]);
        for i in 0..d_gate.len().min(d_up.len()).min(gradient.len()).min(gate.len()).min(up.len()) {
            let s = math::sigmoid(gate[i]);
            let silu = gate[i] * s;
            d_up[i] = gradient[i] * silu;
            d_gate[i] = gradient[i] * up[i] * (s + silu * (1.0 - s));
        }
    });
}

/// Rotates the two halves of every head: (a, b) become (a·cos − b·sin, b·cos + a·sin); with `back`, by −sin, which is
/// the gradient. `x`: rows of `heads · 2 · half`, `cos` and `sin`: `[rows, half]`.
pub fn rotate(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], half: usize, back: bool) {
    let positions = cos.len() / half;
    let width = x.len() / positions.max(1);
    let sign = if back { -1.0 } else { 1.0 };
    let out = Shared::new(out);
    rows!(positions, width, |range| {
        for row in range {
            let part = row * width..(row + 1) * width;
            // SAFETY: ranges of different threads are disjoint.
            let (x, out) = (&x[part.clone()], unsafe { out.part(part) });
            let (cos, sin) = (&cos[row * half..][..half], &sin[row * half..][..half]);
            for (x, out) in x.chunks_exact(2 * half).zip(out.chunks_exact_mut(2 * half)) {
                let ((a, b), (left, right)) = (x.split_at(half), out.split_at_mut(half));
                for i in 0..half {
                    let sin = sign * sin[i];
                    left[i] = a[i] * cos[i] - b[i] * sin;
                    right[i] = b[i] * cos[i] + a[i] * sin;
                }
            }
        }
    });
}

/// Turns logits `[rows, width]` into probabilities in place; `normalisers` gets log Σ exp of each row.
pub fn softmax(logits: &mut [f32], normalisers: &mut [f32]) {
    let count = normalisers.len();
    let width = logits.len() / count.max(1);
    let (logits, normalisers) = (Shared::new(logits), Shared::new(normalisers));
    rows!(count, width, |range| {
        for row in range {
            // SAFETY: ranges of different threads are disjoint.
            let (logits, normaliser) =
                unsafe { (logits.part(row * width..(row + 1) * width), normalisers.part(row..row + 1)) };
            let highest = math::max(logits);
            let sum = math::exp_in_place(logits, highest);
            let inverse = (1.0 / sum) as f32;
            logits.iter_mut().for_each(|value| *value *= inverse);
            normaliser[0] = (f64::from(highest) + sum.ln()) as f32;
        }
    });
}
