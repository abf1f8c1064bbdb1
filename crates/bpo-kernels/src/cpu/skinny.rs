//! Products of a few rows with a large weight, which is read once from memory.
use std::{borrow::Cow, ops::Range};

use burn::tensor::bf16;
use pulp::{Arch, Simd, WithSimd};

use super::{
    gemm::PARALLEL,
    parallel::{self, Shared},
};

/// Rows up to which the weights are streamed past the inputs instead of being packed.
pub const ROWS: usize = 64;

/// A product that is added to another: `x · wᵀ` for `x` `[m, rank]` and `w` `[n, rank]`.
#[derive(Clone, Copy)]
pub struct Branch<'a> {
    pub x: &'a [f32],
    pub w: &'a [f32],
    pub rank: usize,
}

impl Branch<'_> {
    /// Adds nothing.
    pub const NONE: Self = Self { x: &[], w: &[], rank: 0 };
}

/// `out ← x · wᵀ + branch`, `[m, n]`, on all threads, for `x` `[m, k]` of at most [`ROWS`] rows and a weight `w`
/// `[n, k]`, all row-major without gaps.
///
/// # Panics
/// When the sizes disagree, or the rows of `w` cannot be read as vectors (see [`Stored::is_readable`]).
pub fn linear<W: Stored>(out: &mut [f32], x: &[f32], w: &[W], branch: Branch<'_>, [m, k, n]: [usize; 3]) {
    assert!(m <= ROWS && out.len() == m * n && x.len() == m * k && w.len() == n * k, "sizes of a skinny product");
    assert!(branch.x.len() == m * branch.rank && branch.w.len() == n * branch.rank, "sizes of a branch");
    assert!(W::is_readable(w, k), "weights at addresses that vectors cannot be read from");
    if m == 0 || k == 0 {
        assert!(m == 0 || branch.rank == 0, "a branch of a layer without inputs");
        return out.fill(0.0);
    }
    let x = W::arranged(x, k);
    let out = Shared::new(out);
    parallel::ranges(n.div_ceil(STEP), PARALLEL.div_ceil(STEP * m * k), |blocks| {
        let columns = blocks.start * STEP..(blocks.end * STEP).min(n);
        Arch::new().dispatch(Skinny { out, x: &x, w, branch, sizes: [m, k, n], columns });
    });
}

/// As [`linear`], on the calling thread and for any number of rows, for weights that are small.
pub fn stream(out: &mut [f32], x: &[f32], w: &[f32], [m, k, n]: [usize; 3]) {
    assert!(out.len() == m * n && x.len() == m * k && w.len() == n * k, "sizes of a product");
    for (out, x) in out.chunks_mut(ROWS * n).zip(x.chunks(ROWS * k)) {
        let sizes = [x.len() / k, k, n];
        Arch::new().dispatch(Skinny { out: Shared::new(out), x, w, branch: Branch::NONE, sizes, columns: 0..n });
    }
}

/// A number format of weights: how two vectors of 32-bit numbers are read from a row of them.
pub trait Stored: Copy + Sync {
    /// What is read at once.
    type Vectors<S: Simd>: Copy;

    /// Whether rows of `k` weights start where [`Stored::read`] can read.
    fn is_readable(weights: &[Self], k: usize) -> bool;

    /// The inputs in the order in which [`Stored::widened`] gives a row's weights.
    fn arranged(x: &[f32], k: usize) -> Cow<'_, [f32]>;

    /// A row as pairs of vectors. Weights that fill none are left over.
    fn read<S: Simd>(row: &[Self]) -> &[Self::Vectors<S>];

    /// The weights of one pair.
    fn widened<S: Simd>(simd: S, pair: Self::Vectors<S>) -> [S::f32s; 2];

    /// One weight.
    fn value(self) -> f32;
}

impl Stored for f32 {
    type Vectors<S: Simd> = [S::f32s; 2];

    fn is_readable(_: &[Self], _: usize) -> bool {
        true
    }

    fn arranged(x: &[f32], _: usize) -> Cow<'_, [f32]> {
        Cow::Borrowed(x)
    }

    #[inline(always)]
    fn read<S: Simd>(row: &[Self]) -> &[[S::f32s; 2]] {
        S::as_simd_f32s(row).0.as_chunks().0
    }

    #[inline(always)]
    fn widened<S: Simd>(_: S, pair: [S::f32s; 2]) -> [S::f32s; 2] {
        pair
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

/// A bf16 is the upper half of an f32. Read as 32-bit lanes, a row's vector holds neighbours in its halves: those at
/// even places come out by a shift, those at odd ones by a mask.
impl Stored for bf16 {
    type Vectors<S: Simd> = S::u32s;

    fn is_readable(weights: &[Self], k: usize) -> bool {
        k.is_multiple_of(2) && bytemuck::try_cast_slice::<bf16, u32>(&weights[..weights.len() / 2 * 2]).is_ok()
    }

    fn arranged(x: &[f32], k: usize) -> Cow<'_, [f32]> {
        let mut arranged = x.to_vec();
        Arch::new().dispatch(Arrange { x, arranged: &mut arranged, k });
        Cow::Owned(arranged)
    }

    #[inline(always)]
    fn read<S: Simd>(row: &[Self]) -> &[S::u32s] {
        // `is_readable` has been asked: the row starts at a multiple of four bytes.
        S::as_simd_u32s(bytemuck::cast_slice(&row[..row.len() / 2 * 2])).0
    }

    #[inline(always)]
    fn widened<S: Simd>(simd: S, pair: S::u32s) -> [S::f32s; 2] {
        let even = simd.wrapping_dyn_shl_u32s(pair, simd.splat_u32s(16));
        let odd = simd.and_u32s(pair, simd.splat_u32s(0xFFFF_0000));
        [simd.transmute_f32s_u32s(even), simd.transmute_f32s_u32s(odd)]
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self.to_f32()
    }
}

/// Sorts every two vectors of inputs into those at even and those at odd places.
struct Arrange<'a> {
    x: &'a [f32],
    arranged: &'a mut [f32],
    k: usize,
}

impl WithSimd for Arrange<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let lanes = S::F32_LANES;
        for (x, arranged) in self.x.chunks_exact(self.k).zip(self.arranged.chunks_exact_mut(self.k)) {
            for (x, arranged) in x.chunks_exact(2 * lanes).zip(arranged.chunks_exact_mut(2 * lanes)) {
                let (even, odd) = arranged.split_at_mut(lanes);
                for lane in 0..lanes {
                    even[lane] = x[2 * lane];
                    odd[lane] = x[2 * lane + 1];
                }
            }
        }
    }
}

/// Weight rows that a product holds in registers at once.
const STEP: usize = 4;

/// Columns of the output that it computes before it writes them.
const TILE: usize = 64;

/// A few rows of inputs against a range of weight rows: every weight is read once from memory, against all rows.
struct Skinny<'a, W> {
    out: Shared<'a>,
    /// Arranged for `W`.
    x: &'a [f32],
    w: &'a [W],
    branch: Branch<'a>,
    /// m, k, n.
    sizes: [usize; 3],
    columns: Range<usize>,
}

impl<W: Stored> WithSimd for Skinny<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [rows, _, width] = self.sizes;
        // Results are gathered in a tile: the rows of a wide output lie at distances that share a cache set.
        let mut tile = [0.0; ROWS * TILE];
        let mut start = self.columns.start;
        while start < self.columns.end {
            let end = (start + TILE).min(self.columns.end);
            let mut column = start;
            while column + STEP <= end {
                self.rows::<S, STEP>(simd, column, &mut tile[column - start..]);
                column += STEP;
            }
            for column in column..end {
                self.rows::<S, 1>(simd, column, &mut tile[column - start..]);
            }
            for (row, tile) in tile.chunks_exact(TILE).take(rows).enumerate() {
                let at = row * width;
                // SAFETY: `columns` of different threads are disjoint, hence so are these parts of each row.
                unsafe { self.out.part(at + start..at + end) }.copy_from_slice(&tile[..end - start]);
            }
            start = end;
        }
    }
}

impl<W: Stored> Skinny<'_, W> {
    #[inline(always)]
    fn rows<S: Simd, const N: usize>(&self, simd: S, column: usize, tile: &mut [f32]) {
        let [rows, k, width] = self.sizes;
        let next = &self.w[(column + N).min(width) * k..];
        let mut ahead = Ahead { weights: next, fetched: 0, pace: N.div_ceil(rows.div_ceil(4)) };
        let mut row = 0;
        while row + 4 <= rows {
            self.block::<S, 4, N>(simd, [row, column], tile, &mut ahead);
            row += 4;
        }
        match rows - row {
            1 => self.block::<S, 1, N>(simd, [row, column], tile, &mut ahead),
            2 => self.block::<S, 2, N>(simd, [row, column], tile, &mut ahead),
            3 => self.block::<S, 3, N>(simd, [row, column], tile, &mut ahead),
            _ => {}
        }
    }

    /// `M × N` dot products at once.
    #[inline(always)]
    fn block<S: Simd, const M: usize, const N: usize>(
        &self,
        simd: S,
        [row, column]: [usize; 2],
        tile: &mut [f32],
        ahead: &mut Ahead<'_, W>,
    ) {
        let k = self.sizes[1];
        let x: [&[f32]; M] = std::array::from_fn(|i| &self.x[(row + i) * k..][..k]);
        let w: [&[W]; N] = std::array::from_fn(|j| &self.w[(column + j) * k..][..k]);
        let (inputs, weights) = (x.map(<f32 as Stored>::read::<S>), w.map(W::read::<S>));
        let mut sums = [[simd.splat_f32s(0.0); N]; M];
        for step in 0..inputs[0].len() {
            ahead.fetch(2 * S::F32_LANES);
            // No closure: one that is not inlined has not the instructions of this function.
            let mut wide = [[simd.splat_f32s(0.0); 2]; N];
            for j in 0..N {
                wide[j] = W::widened(simd, weights[j][step]);
            }
            for half in 0..2 {
                for i in 0..M {
                    let value = inputs[i][step][half];
                    for j in 0..N {
                        sums[i][j] = simd.mul_add_e_f32s(value, wide[j][half], sums[i][j]);
                    }
                }
            }
        }
        let Branch { x: thin, w: wide, rank } = self.branch;
        let thin: [&[f32]; M] = std::array::from_fn(|i| &thin[(row + i) * rank..][..rank]);
        let wide: [&[f32]; N] = std::array::from_fn(|j| &wide[(column + j) * rank..][..rank]);
        let (thin, wide) = (thin.map(S::as_simd_f32s), wide.map(S::as_simd_f32s));
        for step in 0..rank / S::F32_LANES {
            for i in 0..M {
                for j in 0..N {
                    sums[i][j] = simd.mul_add_e_f32s(thin[i].0[step], wide[j].0[step], sums[i][j]);
                }
            }
        }
        let rest = inputs[0].len() * 2 * S::F32_LANES..k;
        for i in 0..M {
            for j in 0..N {
                let pairs = x[i][rest.clone()].iter().zip(&w[j][rest.clone()]);
                let left: f32 = pairs.map(|(x, w)| x * w.value()).sum();
                let beside: f32 = thin[i].1.iter().zip(wide[j].1).map(|(x, w)| x * w).sum();
                tile[(row + i) * TILE + j] = simd.reduce_sum_f32s(sums[i][j]) + left + beside;
            }
        }
    }
}

/// The weights of the next blocks, called from memory while this one is computed.
struct Ahead<'a, W> {
    weights: &'a [W],
    fetched: usize,
    /// Rows per step, so that as many weights are called as are used.
    pace: usize,
}

impl<W> Ahead<'_, W> {
    /// Bytes that come from memory together.
    const LINE: usize = 64;

    #[inline(always)]
    fn fetch(&mut self, per_row: usize) {
        let end = self.fetched + self.pace * per_row;
        while self.fetched < end {
            #[cfg(target_arch = "x86_64")]
            if let Some(weight) = self.weights.get(self.fetched) {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                // SAFETY: a hint about an address inside a slice; every x86-64 CPU has the instruction.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(weight).cast()) };
            }
            self.fetched += Self::LINE / size_of::<W>();
        }
    }
}
