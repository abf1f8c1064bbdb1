//! Products with a layer's weights, as f32 or as bf16.
use std::{cell::Cell, ops::Range};

use burn::tensor::bf16;

use super::{
    gemm::{Matrix, MatrixMut, Write, gemm},
    parallel::{self, Shared},
    skinny::{self, Branch},
};

/// A weight `[n, k]`, row-major without gaps.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

/// `out ← x · wᵀ + branch`, `[m, n]`, for `x` `[m, k]`.
pub fn linear(out: &mut [f32], x: &[f32], w: Weights<'_>, branch: Branch<'_>, [m, k, n]: [usize; 3]) {
    match w {
        _ if k == 0 && branch.rank == 0 => out.fill(0.0),
        Weights::F32(w) if m <= skinny::ROWS => skinny::linear(out, x, w, branch, [m, k, n]),
        Weights::Bf16(w) if m <= skinny::ROWS && skinny::Stored::is_readable(w, k) => {
            skinny::linear(out, x, w, branch, [m, k, n]);
        }
        _ => {
            assert_eq!(out.len(), m * n, "room for a product");
            let (x, out) = (Matrix::new(x, m, k), Shared::new(out));
            w.blocks(k, |rows, block| {
                // SAFETY: the blocks come one after the other, and nobody else has `out`.
                let part = unsafe { MatrixMut::within(out, rows.start, m, rows.len(), n) };
                gemm(Write::Replace, part, 1.0, x, block.transposed(), true);
            });
            if branch.rank > 0 {
                let (thin, wide) = (Matrix::new(branch.x, m, branch.rank), Matrix::new(branch.w, n, branch.rank));
                // SAFETY: as above.
                let all = unsafe { MatrixMut::within(out, 0, m, n, n) };
                gemm(Write::Add, all, 1.0, thin, wide.transposed(), true);
            }
        }
    }
}

/// `out ← x · w`, `[m, k]`, for `x` `[m, n]`.
pub fn linear_transposed(out: &mut [f32], x: &[f32], w: Weights<'_>, [m, n, k]: [usize; 3]) {
    assert!(x.len() == m * n && out.len() == m * k, "sizes of a product");
    if n == 0 {
        return out.fill(0.0);
    }
    let mut into = Write::Replace;
    w.blocks(k, |rows, block| {
        let columns = Matrix::strided(&x[rows.start..], m, rows.len(), n);
        gemm(into, MatrixMut::new(out, m, k, k), 1.0, columns, block, true);
        into = Write::Add;
    });
}

thread_local! {
    /// Kept between products, whose weights it takes in turn.
    static WIDENED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Weights widened at once: 8 MiB, which stay in the caches.
const BLOCK: usize = 1 << 21;

/// Weights from which a second thread pays.
const GRAIN: usize = 1 << 15;

impl Weights<'_> {
    /// Calls `work` with stretches of rows `[rows, k]` as f32, which are all of them at once where they need not be
    /// widened.
    fn blocks(self, k: usize, mut work: impl FnMut(Range<usize>, Matrix<'_>)) {
        match self {
            _ if k == 0 => {}
            Self::F32(w) => work(0..w.len() / k, Matrix::new(w, w.len() / k, k)),
            Self::Bf16(w) => {
                // Taken, not borrowed: a thread that waits inside a product may begin another.
                let mut room = WIDENED.take();
                let rows = (BLOCK / k).max(1);
                let mut start = 0;
                for block in w.chunks(rows * k) {
                    let end = start + block.len() / k;
                    if room.len() < block.len() {
                        room.resize(block.len(), 0.0);
                    }
                    let room = &mut room[..block.len()];
                    widen(room, block);
                    work(start..end, Matrix::new(room, end - start, k));
                    start = end;
                }
                WIDENED.set(room);
            }
        }
    }
}

/// On all threads.
fn widen(out: &mut [f32], weights: &[bf16]) {
    let shared = Shared::new(out);
    parallel::ranges(weights.len(), GRAIN, |range| {
        // SAFETY: the ranges are disjoint.
        let out = unsafe { shared.part(range.clone()) };
        vectorised!(out.iter_mut().zip(&weights[range.clone()]).for_each(|(out, weight)| *out = widened(*weight)));
    });
}

/// bf16's own conversion looks for NaN first, which costs the vectors.
#[inline(always)]
fn widened(weight: bf16) -> f32 {
    f32::from_bits(u32::from(weight.to_bits()) << 16)
}
