//! What happened in a run: one self-contained page, figures, TensorBoard events.
//! Start from [`Record::read`], which looks at a run's folder without disturbing it, then [`page`] and [`figures`].
//! It knows runs only by their files, and links no tensor library.
#![doc = ""]
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)
)]

mod error;
mod figures;
mod page;
pub mod plot;
#[cfg(feature = "png")]
mod raster;
mod record;
pub mod tensorboard;

pub use error::Error;
pub use figures::{Figure, figures};
pub use page::page;
#[cfg(feature = "png")]
pub use raster::Painter;
pub use record::{Evaluation, Exchange, Phase, Piece, Record, Response, Texts};
