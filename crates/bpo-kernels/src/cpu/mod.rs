//! Kernels on slices. Sizes are checked by the operations that call them and, where memory safety rests on them, here.
/// Runs a block compiled for the vectors that the CPU has: everything in it that is inlined.
macro_rules! vectorised {
    ($work:expr) => {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || $work,
        )
    };
}

pub mod attention;
pub mod gemm;
pub mod math;
pub mod parallel;
pub mod pointwise;
pub mod skinny;
pub mod weights;
