use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// How LoRA adapters become one. Written `mean`, `concat`, `svd:16` or `peft_linear`.
///
/// With `Δ_k = s_k·B_k·A_k` (`s_k`: the member's scaling in this module) and weights `w_k`, the exact merge is
/// `Δ = Σ_k w_k·Δ_k`, the mean of what the members add to a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AdapterMerge {
    /// Exactly `Δ`, with no more rank than its shape `[out, in]` has: as [`AdapterMerge::Concat`] while `Σ r_k`
    /// is at most min(out, in); from there on `Δ` itself beside an identity matrix.
    #[default]
    Mean,
    /// Exactly `Δ` as stacked factors of rank `Σ r_k`: `A = [w_k·s_k·A_k]` by rows, `B = [B_k]` by columns.
    /// Number for number PEFT's `add_weighted_adapter(combination_type="cat")`.
    Concat,
    /// The best approximation of `Δ` of at most this rank in the Frobenius norm (Eckart & Young 1936), from thin
    /// QR factors and the SVD of their core; `Δ` is never formed. Its error is reported.
    Svd(usize),
    /// PEFT's `add_weighted_adapter(combination_type="linear")`: `A = Σ_k √(w_k·s_k)·A_k`,
    /// `B = Σ_k √(w_k·s_k)·B_k`; what the authors of BPO sample from.
    ///
    /// **Not a mean**: `B·A` holds the cross terms `B_i·A_j`. K identical members give K times a member; members
    /// trained from different initialisations give about a member's size in another direction. All ranks must be
    /// equal, and no `w_k·s_k` negative.
    PeftLinear,
}

impl AdapterMerge {
    /// Rank of the merge of members of these `ranks` in a module of `shape` `[out, in]`.
    pub(super) fn rank(self, ranks: &[usize], [outputs, inputs]: [usize; 2]) -> usize {
        let sum: usize = ranks.iter().sum();
        match self {
            Self::Mean => sum.min(outputs).min(inputs),
            Self::Concat => sum,
            Self::Svd(rank) => rank.min(sum).min(outputs).min(inputs),
            Self::PeftLinear => ranks.first().copied().unwrap_or_default(),
        }
    }
}

impl fmt::Display for AdapterMerge {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mean => out.write_str("mean"),
            Self::Concat => out.write_str("concat"),
            Self::Svd(rank) => write!(out, "svd:{rank}"),
            Self::PeftLinear => out.write_str("peft_linear"),
        }
    }
}

impl FromStr for AdapterMerge {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "mean" => Ok(Self::Mean),
            "concat" => Ok(Self::Concat),
            "peft_linear" => Ok(Self::PeftLinear),
            _ => match text.strip_prefix("svd:").map(str::parse) {
                Some(Ok(rank)) if rank > 0 => Ok(Self::Svd(rank)),
                Some(_) => Err(Error::Merge(format!("\"{text}\": the rank after svd: is a whole number from 1"))),
                None if text == "svd" => Err(Error::Merge("\"svd\" needs a rank, as in svd:16".to_owned())),
                None => Err(Error::Merge(format!("\"{text}\" is not known; known: mean, concat, svd:R, peft_linear"))),
            },
        }
    }
}

impl TryFrom<String> for AdapterMerge {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<AdapterMerge> for String {
    fn from(how: AdapterMerge) -> Self {
        how.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_reads_back_from_what_it_prints() {
        for how in [AdapterMerge::Mean, AdapterMerge::Concat, AdapterMerge::Svd(16), AdapterMerge::PeftLinear] {
            assert_eq!(how.to_string().parse::<AdapterMerge>().unwrap(), how);
            let json = serde_json::to_string(&how).unwrap();
            assert_eq!(json, format!("\"{how}\""));
            assert_eq!(serde_json::from_str::<AdapterMerge>(&json).unwrap(), how);
        }
    }

    #[test]
    fn an_unknown_method_is_told_what_there_is() {
        for (text, word) in [("median", "peft_linear"), ("svd", "svd:16"), ("svd:0", "from 1"), ("svd:x", "from 1")] {
            let error = text.parse::<AdapterMerge>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(word), "{error}");
        }
    }
}
