//! Drawings as SVG, from shapes ([`svg`]) over axes ([`scale`]) to small charts ([`Panel`], [`Histogram`]).
mod histogram;
mod panel;
pub mod scale;
pub mod svg;

pub use histogram::Histogram;
pub use panel::{Line, Panel};
