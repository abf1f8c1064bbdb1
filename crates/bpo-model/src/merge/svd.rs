//! Singular value decomposition by one-sided Jacobi rotations (Hestenes 1958; Demmel & Veselić 1992).
//!
//! Not nalgebra's: with vectors asked for, its last step on a 2 × 2 block divides by the smaller singular value and
//! multiplies the larger one by what comes of it. The nearer that block is to singular, the more digits are lost, and
//! of small matrices of whole numbers some come out wrong in the first digit (dimforge/nalgebra#1172).
use nalgebra::DMatrix;

/// Cyclic sweeps over all pairs of columns: around ten are taken, of 512 columns thirteen.
const SWEEPS: usize = 60;

/// `X = left·rightᵀ` with `left` = U·diag(√σ) and `right` = V·diag(√σ).
pub(super) struct Svd {
    /// `[rows, min(rows, columns)]`.
    pub left: DMatrix<f64>,
    /// `[columns, min(rows, columns)]`.
    pub right: DMatrix<f64>,
    /// Singular values, descending. One below ε·‖X‖ is rounding, and so are its columns.
    pub sigma: Vec<f64>,
}

impl Svd {
    /// Of `x`; nothing when its norm is not finite.
    pub fn of(x: DMatrix<f64>) -> Option<Self> {
        if x.nrows() >= x.ncols() {
            return Self::of_tall(x);
        }
        let Self { left, right, sigma } = Self::of_tall(x.transpose())?;
        Some(Self { left: right, right: left, sigma })
    }

    fn of_tall(mut x: DMatrix<f64>) -> Option<Self> {
        let mut v = DMatrix::identity(x.ncols(), x.ncols());
        orthogonalise(&mut x, &mut v)?;
        let norms: Vec<f64> = x.column_iter().map(|column| column.norm()).collect();
        let mut order: Vec<usize> = (0..norms.len()).collect();
        order.sort_by(|&i, &j| norms[j].total_cmp(&norms[i]));
        let (mut left, mut right) = (x.select_columns(&order), v.select_columns(&order));
        let sigma: Vec<f64> = order.into_iter().map(|index| norms[index]).collect();
        for (index, root) in sigma.iter().map(|sigma| sigma.sqrt()).enumerate() {
            // A column of norm 0 is 0.
            left.column_mut(index).scale_mut(if root > 0.0 { root.recip() } else { 0.0 });
            right.column_mut(index).scale_mut(root);
        }
        Some(Self { left, right, sigma })
    }
}

/// Rotates columns of `x`, and those of `v` alike, until those of `x` are orthogonal: `x·vᵀ` stays what it was.
fn orthogonalise(x: &mut DMatrix<f64>, v: &mut DMatrix<f64>) -> Option<()> {
    let whole = x.norm();
    let tolerances =
        Tolerances { cosine: f64::EPSILON * (x.nrows() as f64).sqrt(), squared_norm: (f64::EPSILON * whole).powi(2) };
    for _ in 0..if whole.is_finite() { SWEEPS } else { 0 } {
        let mut settled = true;
        for q in 1..x.ncols() {
            for p in 0..q {
                if let Some(rotation) = tolerances.rotation(x, p, q) {
                    rotate(x, (p, q), rotation);
                    rotate(v, (p, q), rotation);
                    settled = false;
                }
            }
        }
        if settled {
            return Some(());
        }
    }
    None
}

/// What rounding leaves of a cosine and of a column that is 0.
struct Tolerances {
    cosine: f64,
    squared_norm: f64,
}

impl Tolerances {
    /// Cosine and sine of the smaller angle that makes two columns of `x` orthogonal, where they are not.
    fn rotation(&self, x: &DMatrix<f64>, p: usize, q: usize) -> Option<(f64, f64)> {
        let (xp, xq) = (x.column(p), x.column(q));
        let (a, b, product) = (xp.norm_squared(), xq.norm_squared(), xp.dot(&xq));
        if a.min(b) <= self.squared_norm || product.abs() <= self.cosine * a.sqrt() * b.sqrt() {
            return None;
        }
        let cotangent = (b - a) / (2.0 * product); // of twice the angle
        let tangent = cotangent.signum() / (cotangent.abs() + cotangent.hypot(1.0));
        let cosine = tangent.hypot(1.0).recip();
        Some((cosine, cosine * tangent))
    }
}

fn rotate(x: &mut DMatrix<f64>, (p, q): (usize, usize), (cosine, sine): (f64, f64)) {
    let (mut xp, mut xq) = x.columns_range_pair_mut(p, q);
    for (left, right) in xp.iter_mut().zip(xq.iter_mut()) {
        (*left, *right) = (cosine * *left - sine * *right, sine * *left + cosine * *right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Singular values that are equal, 0, or both. Of the first two nalgebra's are wrong in the first digit.
    #[test]
    fn degenerate_matrices_come_out_to_the_last_digits() {
        let rows = |columns, numbers: &[f64]| DMatrix::from_row_slice(numbers.len() / columns, columns, numbers);
        let cases = [
            (rows(5, &[1.0; 15]), vec![15.0, 0.0, 0.0]),
            (rows(21, &[1.0; 126]), vec![126.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (rows(2, &[-1.0, -4.0, -1.0, 4.0]), vec![32.0, 2.0]),
            (rows(3, &[2.0, 0.0, 0.0, 0.0, 0.0, -2.0, 0.0, 0.0, 0.0]), vec![4.0, 4.0, 0.0]),
            (rows(2, &[3.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 4.0]), vec![25.0, 25.0]),
            (rows(2, &[1.0, 1e-9, 0.0, 1e-9]), vec![1.0, 1e-18]),
            (rows(2, &[0.0; 4]), vec![0.0, 0.0]),
        ];
        for (x, squares) in cases {
            let Svd { left, right, sigma } = Svd::of(x.clone()).unwrap();
            let near = |found: DMatrix<f64>, expected: DMatrix<f64>| {
                let bound = 8.0 * f64::EPSILON * (1.0 + expected.norm());
                assert!((&found - &expected).norm() <= bound, "{found} instead of {expected}");
            };
            let diagonal = |values: Vec<f64>| DMatrix::from_diagonal(&values.into());
            let roots: Vec<f64> = squares.iter().map(|square: &f64| square.sqrt()).collect();
            let scale = diagonal(sigma.iter().map(|sigma| sigma.sqrt()).collect());
            near(&left * right.transpose(), x);
            for side in [left * &scale, right * &scale] {
                near(side.tr_mul(&side), diagonal(squares.clone()));
            }
            near(diagonal(sigma), diagonal(roots));
        }
    }

    #[test]
    fn what_is_not_finite_has_none() {
        for number in [f64::NAN, f64::INFINITY, 1e300] {
            assert!(Svd::of(DMatrix::from_element(2, 3, number)).is_none());
        }
    }
}
