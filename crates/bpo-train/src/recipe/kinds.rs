//! Values of recipe keys that are more than a number.
use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How often training data is collected with a fresh behaviour policy: the paper's F.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectionPhases {
    /// F phases; 1 is offline.
    Count(u64),
    /// F = T: a refresh before every step.
    EveryStep,
}

impl<'de> Deserialize<'de> for CollectionPhases {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Count(u64),
            Text(String),
        }
        match Written::deserialize(deserializer) {
            Ok(Written::Count(count)) if count > 0 => Ok(Self::Count(count)),
            Ok(Written::Text(text)) if text == "T" => Ok(Self::EveryStep),
            _ => Err(serde::de::Error::custom("collection_phases must be a whole number from 1 or \"T\"")),
        }
    }
}

impl Serialize for CollectionPhases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::EveryStep => serializer.serialize_str("T"),
        }
    }
}

/// When the policy is evaluated between the start and the end, which always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvalStrategy {
    /// Not at all.
    No,
    /// Every `eval_steps` steps, where that is not 0.
    #[default]
    Steps,
    /// Wherever a phase of data collection begins.
    Phase,
}

/// What the policy is measured against in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// The behaviour policy, which sampled the pair: this makes it BPO.
    Behaviour,
    /// The policy the run started from: online DPO.
    Initial,
    /// A policy that follows the trained one: every `ref_model_sync_steps` steps it is moved by
    /// `ref_model_mixup_alpha` of the way. TR-DPO (Gorbatovski et al. 2024, arXiv:2404.09656); with a small share at
    /// every step, an exponential moving average.
    Ema,
    /// A copy of the trained policy, taken every so many steps, whatever the behaviour does.
    Every(u64),
}

impl Reference {
    /// Whether it is a policy of its own, neither the behaviour nor the start.
    pub fn is_tracked(self) -> bool {
        matches!(self, Self::Ema | Self::Every(_))
    }

    /// Whether it moves before `step`; `sync_steps` are those of an `ema`.
    pub fn moves_at(self, step: u64, sync_steps: u64) -> bool {
        match self {
            Self::Behaviour | Self::Initial => false,
            Self::Ema => step.is_multiple_of(sync_steps.max(1)),
            Self::Every(steps) => step.is_multiple_of(steps.max(1)),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behaviour => f.write_str("behaviour"),
            Self::Initial => f.write_str("initial"),
            Self::Ema => f.write_str("ema"),
            Self::Every(steps) => write!(f, "every:{steps}"),
        }
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let every = |steps: &str| steps.parse().ok().filter(|steps| *steps > 0).map(Self::Every);
        match text {
            "behaviour" => Ok(Self::Behaviour),
            "initial" => Ok(Self::Initial),
            "ema" => Ok(Self::Ema),
            other => other.strip_prefix("every:").and_then(every).ok_or_else(|| {
                format!("reference = \"{other}\": known are \"behaviour\", \"initial\", \"ema\" and \"every:N\"")
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A value, or a list of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// Written without brackets.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// All of them.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl<T: fmt::Display> fmt::Display for OneOrMany<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.as_slice().iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(" + "))
    }
}

impl From<&str> for OneOrMany<String> {
    fn from(text: &str) -> Self {
        Self::One(text.into())
    }
}

/// `f_divergence_type`, under TRL's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FDivergenceType {
    /// DPO's own.
    #[default]
    ReverseKl,
    /// Forward KL.
    ForwardKl,
    /// Jensen–Shannon.
    JsDivergence,
    /// α-divergence, with `f_alpha_divergence_coef`.
    AlphaDivergence,
}

/// Course of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrScheduler {
    /// Stays at its peak.
    Constant,
    /// Falls linearly to 0.
    Linear,
    /// Falls to 0 along half a cosine.
    Cosine,
}
