use serde_json::Value;

use super::{Keys, Rope, RopeScaling};
use crate::Error;

impl Keys<'_> {
    /// A non-empty `rope_scaling` beats `rope_parameters`, as in transformers.
    fn rope_object(&self) -> Option<&Value> {
        self.filled("rope_scaling").or_else(|| self.filled("rope_parameters"))
    }

    pub(super) fn filled(&self, key: &str) -> Option<&Value> {
        self.raw.get(key).filter(|value| value.as_object().is_some_and(|object| !object.is_empty()))
    }

    /// Frequencies of all layers, rotating whole heads.
    pub(super) fn rope(&self) -> Result<Rope, Error> {
        if let Some(rope) = self.rope_object()
            && self.number(rope, "partial_rotary_factor")?.is_some_and(|share| share != 1.0)
        {
            return Err(self.unsupported("partial_rotary_factor", "≠ 1", "rotation of whole heads"));
        }
        self.rope_by("rope_theta")
    }

    /// Frequencies of all layers, whose base older files hold under `key`.
    pub(super) fn rope_by(&self, key: &str) -> Result<Rope, Error> {
        let rope = self.rope_object();
        let nested = rope.map_or(Ok(None), |rope| self.number(rope, "rope_theta"))?;
        let theta = match nested {
            Some(theta) => Some(theta),
            None => self.number(self.raw, key)?,
        };
        Ok(Rope {
            theta: theta.unwrap_or(10_000.0),
            scaling: rope.map_or(Ok(RopeScaling::Default), |r| self.scaling(r))?,
        })
    }

    /// The share of each head's columns that is rotated, under the name of today or under `key`.
    pub(super) fn rotated_share(&self, key: &str, default: f64) -> Result<f64, Error> {
        let nested = self.rope_object().map_or(Ok(None), |rope| self.number(rope, "partial_rotary_factor"))?;
        let share = match nested {
            Some(share) => Some(share),
            None => self.number(self.raw, key)?,
        };
        match share.unwrap_or(default) {
            share if share <= 1.0 => Ok(share),
            share => Err(self.unsupported(key, &share.to_string(), "a share of a head, at most 1")),
        }
    }

    pub(super) fn scaling(&self, rope: &Value) -> Result<RopeScaling, Error> {
        let kind = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str).unwrap_or("default");
        let need =
            |key: &str| self.number(rope, key)?.ok_or_else(|| self.json(&format!("rope type {kind} needs \"{key}\"")));
        match kind {
            "default" if rope.as_object().is_some_and(|o| o.values().any(Value::is_object)) => {
                Err(self.unsupported("rope_parameters", "one per layer type", "one for all layers"))
            }
            "default" => Ok(RopeScaling::Default),
            "linear" => Ok(RopeScaling::Linear { factor: need("factor")? }),
            "llama3" => {
                let original = match self.number(self.raw, "original_max_position_embeddings")? {
                    Some(positions) => Some(positions),
                    None => self.number(rope, "original_max_position_embeddings")?,
                };
                Ok(RopeScaling::Llama3 {
                    factor: need("factor")?,
                    low_freq_factor: need("low_freq_factor")?,
                    high_freq_factor: need("high_freq_factor")?,
                    original_max_position_embeddings: match original {
                        Some(positions) => positions,
                        None => self.required("max_position_embeddings")? as f64,
                    },
                })
            }
            other => Err(self.unsupported("rope type", other, "default, linear, llama3")),
        }
    }
}
