//! Matrix products: `gemm` for many rows, an own kernel for few.
use pulp::{Arch, Simd, WithSimd};

use super::parallel::{self, Shared};

/// A matrix inside a slice: `rows × columns` with the distances between neighbours.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major without gaps.
    ///
    /// # Panics
    /// When there are more or fewer `values`.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(rows.checked_mul(columns), Some(values.len()), "matrix of {rows} × {columns}");
        Self::strided(values, rows, columns, columns)
    }

    /// Rows `row_stride` elements apart.
    ///
    /// # Panics
    /// When the matrix is not inside `values`.
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            extent(rows, columns, row_stride) <= values.len(),
            "matrix of {rows} × {columns} in {} values",
            values.len()
        );
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.row_stride..][..self.columns]
    }
}

/// Where a product goes: rows of a buffer, which other threads may fill around them.
pub struct MatrixMut<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    buffer: std::marker::PhantomData<&'a mut [f32]>,
}

impl<'a> MatrixMut<'a> {
    /// Rows `row_stride` elements apart.
    ///
    /// # Panics
    /// When the matrix is not inside `values`.
    pub fn new(values: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let shared = Shared::new(values);
        // SAFETY: `values` is exclusively borrowed for as long as the matrix lives.
        unsafe { Self::within(shared, 0, rows, columns, row_stride) }
    }

    /// A matrix that starts at element `offset` of a shared buffer.
    ///
    /// # Safety
    /// Nobody else reads or writes its elements while it lives; what lies between its rows is not touched.
    ///
    /// # Panics
    /// When the matrix is not inside the buffer.
    pub unsafe fn within(buffer: Shared<'a>, offset: usize, rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(columns <= row_stride, "rows of a product overlap");
        let start = buffer.pointer(offset, extent(rows, columns, row_stride));
        Self { start, rows, columns, row_stride, buffer: std::marker::PhantomData }
    }
}

/// Elements from the first of a matrix to its last; as many as there can be when that overflows.
fn extent(rows: usize, columns: usize, row_stride: usize) -> usize {
    let before_last = rows.saturating_sub(1).saturating_mul(row_stride);
    if rows == 0 { 0 } else { before_last.saturating_add(columns) }
}

/// What happens to the values that stand where a product goes.
#[derive(Clone, Copy, PartialEq)]
pub enum Write {
    /// They are replaced.
    Replace,
    /// The product is added to them.
    Add,
}

/// `out ← [out +] factor · a · b`, on all threads when `threads`.
///
/// # Panics
/// When the sizes disagree.
pub fn gemm(into: Write, out: MatrixMut<'_>, factor: f32, a: Matrix<'_>, b: Matrix<'_>, threads: bool) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(k == b.rows && m == out.rows && n == out.columns, "sizes of a product");
    let parallelism =
        if threads && m * n * k > PARALLEL { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: `Matrix` and `MatrixMut` lie inside their buffers, and nobody else has the elements of `out`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.start,
            1,
            out.row_stride as isize,
            into == Write::Add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Multiplications from which a second thread pays.
const PARALLEL: usize = 1 << 19;

/// Rows up to which the weights are streamed past the inputs instead of being packed.
pub const SKINNY: usize = 64;

/// `out ← x · wᵀ`, `[m, n]`, for `x` `[m, k]` and a weight `w` `[n, k]`, both row-major without gaps.
pub fn linear(out: &mut [f32], x: &[f32], w: &[f32], [m, k, n]: [usize; 3]) {
    let (x, w) = (Matrix::new(x, m, k), Matrix::new(w, n, k));
    if m > SKINNY {
        return gemm(Write::Replace, MatrixMut::new(out, m, n, n), 1.0, x, w.transposed(), true);
    }
    assert_eq!(out.len(), m * n, "room for a product");
    if m == 0 {
        return;
    }
    let out = Shared::new(out);
    let block = (STEP * m * k).max(1);
    parallel::ranges(n.div_ceil(STEP), PARALLEL.div_ceil(block), |blocks| {
        let columns = blocks.start * STEP..(blocks.end * STEP).min(n);
        Arch::new().dispatch(Skinny { out, x, w, columns });
    });
}

/// As [`linear`], on the calling thread and without packing, for weights that are small.
pub fn stream(out: &mut [f32], x: &[f32], w: &[f32], [m, k, n]: [usize; 3]) {
    assert!(out.len() == m * n && x.len() == m * k, "room for a product");
    for (out, x) in out.chunks_mut(SKINNY * n).zip(x.chunks(SKINNY * k)) {
        let x = Matrix::new(x, x.len() / k, k);
        Arch::new().dispatch(Skinny { out: Shared::new(out), x, w: Matrix::new(w, n, k), columns: 0..n });
    }
}

/// Weight rows that a skinny product holds in registers at once.
const STEP: usize = 4;

/// Columns of the output that it computes before it writes them.
const TILE: usize = 64;

/// A few rows of inputs against a range of weight rows: every weight is read once from memory, against all rows.
struct Skinny<'a> {
    out: Shared<'a>,
    x: Matrix<'a>,
    w: Matrix<'a>,
    columns: std::ops::Range<usize>,
}

impl WithSimd for Skinny<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Results are gathered in a tile: the rows of a wide output lie at distances that share a cache set.
        let mut tile = [0.0; SKINNY * TILE];
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
            for (row, tile) in tile.chunks_exact(TILE).take(self.x.rows).enumerate() {
                let at = row * self.w.rows;
                // SAFETY: `columns` of different threads are disjoint, hence so are these parts of each row.
                unsafe { self.out.part(at + start..at + end) }.copy_from_slice(&tile[..end - start]);
            }
            start = end;
        }
    }
}

impl Skinny<'_> {
    #[inline(always)]
    fn rows<S: Simd, const N: usize>(&self, simd: S, column: usize, tile: &mut [f32]) {
        let next = (column + N).min(self.w.rows) * self.w.row_stride;
        let mut ahead = Ahead { values: &self.w.values[next..], done: 0, pace: N.div_ceil(self.x.rows.div_ceil(4)) };
        let mut row = 0;
        while row + 4 <= self.x.rows {
            self.block::<S, 4, N>(simd, [row, column], tile, &mut ahead);
            row += 4;
        }
        match self.x.rows - row {
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
        ahead: &mut Ahead<'_>,
    ) {
        let x: [_; M] = std::array::from_fn(|i| S::as_simd_f32s(self.x.row(row + i)));
        let w: [_; N] = std::array::from_fn(|j| S::as_simd_f32s(self.w.row(column + j)));
        let mut sums = [[simd.splat_f32s(0.0); N]; M];
        for step in 0..x[0].0.len() {
            ahead.fetch(S::F32_LANES);
            let weights: [S::f32s; N] = std::array::from_fn(|j| w[j].0[step]);
            for i in 0..M {
                let value = x[i].0[step];
                for j in 0..N {
                    sums[i][j] = simd.mul_add_e_f32s(value, weights[j], sums[i][j]);
                }
            }
        }
        for i in 0..M {
            for j in 0..N {
                let rest: f32 = x[i].1.iter().zip(w[j].1).map(|(x, w)| x * w).sum();
                tile[(row + i) * TILE + j] = simd.reduce_sum_f32s(sums[i][j]) + rest;
            }
        }
    }
}

/// The weights of the next blocks, called from memory while this one is computed.
struct Ahead<'a> {
    values: &'a [f32],
    done: usize,
    /// Vectors per step, so that as many are called as are used.
    pace: usize,
}

impl Ahead<'_> {
    #[inline(always)]
    fn fetch(&mut self, lanes: usize) {
        for _ in 0..self.pace {
            #[cfg(target_arch = "x86_64")]
            if let Some(value) = self.values.get(self.done) {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                // SAFETY: a hint about an address inside a slice; every x86-64 CPU has the instruction.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
            }
            self.done += lanes;
        }
    }
}
