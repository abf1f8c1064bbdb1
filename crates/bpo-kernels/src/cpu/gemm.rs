//! Matrix products on strided matrices, by the `gemm` crate.
use super::parallel::Shared;

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
pub const PARALLEL: usize = 1 << 19;
