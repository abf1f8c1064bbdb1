//! Kernels on slices. Sizes are checked by the operations that call them and, where memory safety rests on them, here.
pub mod attention;
pub mod gemm;
pub mod math;
pub mod parallel;
pub mod pointwise;
