//! What is measured, and one measurement of all of it.
use serde::{Deserialize, Serialize};

use super::statistics::Estimate;

/// What is measured on held-out prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Against the reference texts; ties count half.
    ReferenceWinRate,
    /// Against the policy before training; ties count half.
    WinRate,
    /// The annotator's.
    Score,
    /// To the start, nats per response.
    Kl,
    /// Tokens per response.
    Length,
    /// Share of different responses.
    Distinct,
}

impl Quantity {
    /// All of them, as tables show them.
    pub const ALL: [Self; 6] =
        [Self::ReferenceWinRate, Self::WinRate, Self::Score, Self::Kl, Self::Length, Self::Distinct];

    /// Name in data files.
    pub fn key(self) -> &'static str {
        match self {
            Self::ReferenceWinRate => "reference_win_rate",
            Self::WinRate => "win_rate",
            Self::Score => "score",
            Self::Kl => "kl",
            Self::Length => "length",
            Self::Distinct => "distinct",
        }
    }

    /// Name in tables and along axes, with the unit.
    pub fn heading(self) -> &'static str {
        match self {
            Self::ReferenceWinRate => "win rate vs references, %",
            Self::WinRate => "win rate vs start, %",
            Self::Score => "mean score",
            Self::Kl => "KL to start, nats",
            Self::Length => "response length, tokens",
            Self::Distinct => "distinct responses, %",
        }
    }

    /// [`Quantity::heading`] for narrow columns.
    pub fn short(self) -> &'static str {
        match self {
            Self::ReferenceWinRate => "vs references, %",
            Self::WinRate => "vs start, %",
            Self::Score => "score",
            Self::Kl => "KL, nats",
            Self::Length => "length",
            Self::Distinct => "distinct, %",
        }
    }

    /// From the number in a report to the unit of [`Quantity::heading`].
    pub fn scale(self) -> f64 {
        match self {
            Self::ReferenceWinRate | Self::WinRate | Self::Distinct => 100.0,
            Self::Score | Self::Kl | Self::Length => 1.0,
        }
    }

    /// Digits after the point that are worth showing.
    pub fn digits(self) -> usize {
        match self {
            Self::Score => 3,
            Self::Kl => 2,
            _ => 1,
        }
    }

    /// Its value at a point of a curve.
    pub fn of(self, point: &Point) -> Option<Estimate> {
        match self {
            Self::ReferenceWinRate => point.reference_win_rate,
            Self::WinRate => point.win_rate,
            Self::Score => point.score,
            Self::Kl => point.kl,
            Self::Length => point.length,
            Self::Distinct => point.distinct,
        }
    }
}

/// One evaluation: of a cell with bootstrap intervals over prompts, of a method with t intervals over seeds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Point {
    /// Steps before it.
    pub step: u64,
    pub reference_win_rate: Option<Estimate>,
    pub win_rate: Option<Estimate>,
    pub score: Option<Estimate>,
    pub kl: Option<Estimate>,
    pub length: Option<Estimate>,
    pub distinct: Option<Estimate>,
}

impl Point {
    /// The same evaluation of several cells.
    pub fn over(points: &[&Self]) -> Self {
        let all = |quantity: Quantity| {
            let values: Option<Vec<Estimate>> = points.iter().map(|point| quantity.of(point)).collect();
            values.and_then(|values| Estimate::over(&values))
        };
        Self {
            step: points.first().map_or(0, |point| point.step),
            reference_win_rate: all(Quantity::ReferenceWinRate),
            win_rate: all(Quantity::WinRate),
            score: all(Quantity::Score),
            kl: all(Quantity::Kl),
            length: all(Quantity::Length),
            distinct: all(Quantity::Distinct),
        }
    }
}
