use nalgebra::DMatrix;

use crate::Error;

/// A matrix `B·A`, `[out, in]`, held as its two thin factors in f64: what LoRA adds to a weight, scaling aside.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// `[out, rank]`.
    pub(super) b: DMatrix<f64>,
    /// `A` transposed, `[in, rank]`: column-major, its memory is that of `A` by rows.
    pub(super) at: DMatrix<f64>,
}

impl LowRank {
    /// From `a` `[rank, in]` and `b` `[out, rank]`, both by rows.
    ///
    /// # Errors
    /// [`Error::Merge`] when `rank` is 0, or does not divide a length, or when a number is not finite.
    pub fn new(rank: usize, a: &[f64], b: &[f64]) -> Result<Self, Error> {
        if rank == 0 || !a.len().is_multiple_of(rank) || !b.len().is_multiple_of(rank) {
            return Err(Error::Merge(format!("{} and {} numbers are no factors of rank {rank}", a.len(), b.len())));
        }
        if !a.iter().chain(b).all(|value| value.is_finite()) {
            return Err(Error::Merge("a factor holds a number that is not finite".to_owned()));
        }
        let (inputs, outputs) = (a.len() / rank, b.len() / rank);
        let (at, b) = (DMatrix::from_column_slice(inputs, rank, a), DMatrix::from_row_slice(outputs, rank, b));
        Ok(Self { b, at })
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.b.nrows(), self.at.nrows()]
    }

    /// Columns of `B`, rows of `A`.
    pub fn rank(&self) -> usize {
        self.b.ncols()
    }

    /// `A` by rows, `[rank, in]`.
    pub fn a(&self) -> &[f64] {
        self.at.as_slice()
    }

    /// `B` by rows, `[out, rank]`.
    pub fn b(&self) -> Vec<f64> {
        by_rows(&self.b)
    }

    /// The product by rows, `[out, in]`.
    pub fn product(&self) -> Vec<f64> {
        by_rows(&self.dense())
    }

    /// Frobenius norm of the product, from the factors' triangles: ‖B·A‖ = ‖R_B·R_Aᵀ‖ with B = Q_B·R_B, Aᵀ = Q_A·R_A.
    pub fn norm(&self) -> f64 {
        (self.b.clone().qr().r() * self.at.clone().qr().r().transpose()).norm()
    }

    pub(super) fn dense(&self) -> DMatrix<f64> {
        &self.b * self.at.transpose()
    }

    /// `Σ_k left_k·B_k·A_k·right_k` as stacked factors of rank `Σ r_k`. All members have one shape.
    pub(super) fn stacked(members: &[Self], left: &[f64], right: &[f64]) -> Self {
        let beside = |factors: Vec<DMatrix<f64>>| {
            let rows = factors.first().map_or(0, DMatrix::nrows);
            let columns = factors.iter().map(DMatrix::ncols).sum();
            DMatrix::from_iterator(rows, columns, factors.iter().flat_map(|factor| factor.iter().copied()))
        };
        Self {
            b: beside(members.iter().zip(left).map(|(member, factor)| &member.b * *factor).collect()),
            at: beside(members.iter().zip(right).map(|(member, factor)| &member.at * *factor).collect()),
        }
    }
}

/// `XᵀX`.
pub(super) fn gram(x: &DMatrix<f64>) -> DMatrix<f64> {
    // A plain product takes the fast kernel, nalgebra's `tr_mul` does not.
    x.transpose() * x
}

/// Column-major is the transpose by rows.
fn by_rows(matrix: &DMatrix<f64>) -> Vec<f64> {
    matrix.transpose().as_slice().to_vec()
}
