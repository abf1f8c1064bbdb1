//! Merging one module's `Δ_k`, in f64.
use std::iter::Sum;

use nalgebra::DMatrix;

use super::{AdapterMerge, LowRank, low_rank::gram, svd::Svd};
use crate::Error;

/// ‖approximation − Δ‖² and ‖Δ‖². Both 0 where nothing is lost, so that nothing is computed for it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Loss {
    lost: f64,
    whole: f64,
}

impl Loss {
    /// Relative Frobenius error.
    pub fn relative(self) -> f64 {
        if self.lost > 0.0 { (self.lost / self.whole).sqrt() } else { 0.0 }
    }
}

impl Sum for Loss {
    fn sum<I: Iterator<Item = Self>>(losses: I) -> Self {
        losses.fold(Self::default(), |sum, loss| Self { lost: sum.lost + loss.lost, whole: sum.whole + loss.whole })
    }
}

/// Merges the matrices `Δ_k = factors[k]·B_k·A_k` (`factors[k]` is `w_k·s_k`) into one of scaling 1, and says how
/// far that is from `Σ_k Δ_k` in the Frobenius norm, relative to it; 0 for the exact methods.
///
/// # Errors
/// [`Error::Merge`] without members, with another number of factors, a factor that is not finite, members of
/// different shapes, [`AdapterMerge::Svd`] of rank 0, or [`AdapterMerge::PeftLinear`] of different ranks or a
/// negative factor.
pub fn merge_deltas(members: &[LowRank], factors: &[f64], how: AdapterMerge) -> Result<(LowRank, f64), Error> {
    let (merged, loss) = merge_module(members, factors, how)?;
    Ok((merged, loss.relative()))
}

pub(super) fn merge_module(members: &[LowRank], factors: &[f64], how: AdapterMerge) -> Result<(LowRank, Loss), Error> {
    check(members, factors, how)?;
    let ones = vec![1.0; members.len()];
    let stacked = || LowRank::stacked(members, &ones, factors);
    match how {
        AdapterMerge::Concat => Ok((stacked(), Loss::default())),
        AdapterMerge::Mean => Ok((compacted(stacked()), Loss::default())),
        AdapterMerge::Svd(rank) => truncated(stacked(), rank),
        AdapterMerge::PeftLinear => Ok(summed_factors(members, factors)),
    }
}

fn check(members: &[LowRank], factors: &[f64], how: AdapterMerge) -> Result<(), Error> {
    check_count(members.len(), factors.len())?;
    if how == AdapterMerge::Svd(0) {
        return Err(Error::Merge("svd:0: a rank is 1 or more".to_owned()));
    }
    let mut numbered = (1..).zip(members.iter().zip(factors));
    let unfit = numbered.find_map(|(number, (member, factor))| {
        unfit(&members[0], member, *factor, how).map(|why| format!("member {number}: {why}"))
    });
    unfit.map_or(Ok(()), |reason| Err(Error::Merge(reason)))
}

/// Why a member cannot be merged with the first.
fn unfit(first: &LowRank, member: &LowRank, factor: f64, how: AdapterMerge) -> Option<String> {
    let adds_factors = how == AdapterMerge::PeftLinear;
    if !factor.is_finite() {
        Some(format!("weight × scaling is {factor}"))
    } else if member.shape() != first.shape() {
        Some(format!("shape {:?}, the first has {:?}", member.shape(), first.shape()))
    } else if adds_factors && member.rank() != first.rank() {
        let (rank, first) = (member.rank(), first.rank());
        Some(format!("rank {rank}, the first has {first}: peft_linear adds factors, which takes equal ranks"))
    } else if adds_factors && factor < 0.0 {
        Some(format!("weight × scaling is {factor}: peft_linear takes its square root"))
    } else {
        None
    }
}

pub(super) fn check_count(members: usize, weights: usize) -> Result<(), Error> {
    match (members, weights) {
        (0, _) => Err(Error::Merge("there are no members".to_owned())),
        _ if members == weights => Ok(()),
        _ => Err(Error::Merge(format!("{weights} weights for {members} members"))),
    }
}

/// The same matrix with no more rank than its shape has.
fn compacted(delta: LowRank) -> LowRank {
    let [outputs, inputs] = delta.shape();
    if delta.rank() <= outputs.min(inputs) {
        delta
    } else if inputs <= outputs {
        LowRank { b: delta.dense(), at: DMatrix::identity(inputs, inputs) }
    } else {
        LowRank { b: DMatrix::identity(outputs, outputs), at: delta.dense().transpose() }
    }
}

/// Best approximation of at most `rank`, the singular values shared evenly by the two factors.
fn truncated(delta: LowRank, rank: usize) -> Result<(LowRank, Loss), Error> {
    let (b, at) = (delta.b.qr(), delta.at.qr());
    let Some(Svd { left, right, sigma }) = Svd::of(b.r() * at.r().transpose()) else {
        return Err(Error::Merge("the sum of the members is too large for a singular value decomposition".to_owned()));
    };
    let rank = rank.min(sigma.len());
    let squares = |values: &[f64]| values.iter().map(|sigma| sigma * sigma).sum::<f64>();
    let loss = Loss { lost: squares(&sigma[rank..]), whole: squares(&sigma) };
    let (left, right) = (left.columns(0, rank), right.columns(0, rank));
    Ok((LowRank { b: b.q() * left, at: at.q() * right }, loss))
}

/// `(Σ_k √f_k·B_k)·(Σ_k √f_k·A_k)`.
fn summed_factors(members: &[LowRank], factors: &[f64]) -> (LowRank, Loss) {
    let roots: Vec<f64> = factors.iter().map(|factor| factor.sqrt()).collect();
    let stacked = LowRank::stacked(members, &roots, &roots);
    let rank = members[0].rank();
    let sum = |side: &DMatrix<f64>| {
        (1..members.len()).fold(side.columns(0, rank).into_owned(), |sum, k| sum + side.columns(k * rank, rank))
    };
    (LowRank { b: sum(&stacked.b), at: sum(&stacked.at) }, cross_terms(&stacked, rank))
}

/// The cross terms `Σ_{i≠j} B_i·A_j` against `Σ_i B_i·A_i`: as products of the stack's `B` with `P·A` and `A`,
/// where `P` puts the sum of the other blocks in each block's place. Nothing is subtracted, so nothing cancels.
fn cross_terms(stacked: &LowRank, rank: usize) -> Loss {
    let size = stacked.rank();
    let others = DMatrix::from_fn(size, size, |i, j| f64::from(i % rank == j % rank && i != j));
    let (b, a) = (gram(&stacked.b), gram(&stacked.at));
    let cross = &others * &a * &others;
    Loss { lost: b.dot(&cross).max(0.0), whole: b.dot(&a).max(0.0) }
}
