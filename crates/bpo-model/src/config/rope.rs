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
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_max_position_embeddings: self.original_context(rope)?,
            }),
            "dynamic" => Ok(RopeScaling::Dynamic { max_position_embeddings: self.context()? }),
            // Older files of Phi-3 call it by both names.
            "yarn" if rope.get("short_factor").is_none() => self.yarn(rope),
            "longrope" | "su" | "yarn" => self.long_rope(rope),
            other => Err(self.unsupported("rope type", other, "default, linear, dynamic, yarn, longrope, llama3")),
        }
    }

    fn yarn(&self, rope: &Value) -> Result<RopeScaling, Error> {
        let original = self.original_context(rope)?;
        let factor = self.extension(rope, original)?;
        let mscale = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        let scales = (self.number(rope, "mscale")?, self.number(rope, "mscale_all_dim")?);
        let attention = match (self.number(rope, "attention_factor")?, scales) {
            (Some(attention), _) => attention,
            (None, (Some(scale), Some(all))) => mscale(scale) / mscale(all),
            (None, _) => mscale(1.0),
        };
        Ok(RopeScaling::Yarn {
            factor,
            attention_factor: attention,
            beta_fast: self.number(rope, "beta_fast")?.unwrap_or(32.0),
            beta_slow: self.number(rope, "beta_slow")?.unwrap_or(1.0),
            truncate: rope.get("truncate").and_then(Value::as_bool).unwrap_or(true),
            original_max_position_embeddings: original,
        })
    }

    fn long_rope(&self, rope: &Value) -> Result<RopeScaling, Error> {
        let original = self.original_context(rope)?;
        let factor = self.extension(rope, original)?;
        let attention = match self.number(rope, "attention_factor")? {
            Some(attention) => attention,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        };
        Ok(RopeScaling::LongRope {
            short_factor: self.factors(rope, "short_factor")?,
            long_factor: self.factors(rope, "long_factor")?,
            attention_factor: attention,
            original_max_position_embeddings: original,
        })
    }

    /// A list of numbers above 0.
    fn factors(&self, rope: &Value, key: &str) -> Result<Vec<f64>, Error> {
        let number = |value: &Value| value.as_f64().filter(|number| *number > 0.0);
        let list = rope.get(key).and_then(Value::as_array).and_then(|list| list.iter().map(number).collect());
        list.ok_or_else(|| self.json(&format!("\"{key}\" must be a list of numbers above 0")))
    }

    /// How much longer the context is than that of pre-training.
    fn extension(&self, rope: &Value, original: f64) -> Result<f64, Error> {
        match self.number(rope, "factor")? {
            Some(factor) => Ok(factor),
            None => Ok(self.context()? as f64 / original),
        }
    }

    /// The context of pre-training, which is above 1.
    fn original_context(&self, rope: &Value) -> Result<f64, Error> {
        const KEY: &str = "original_max_position_embeddings";
        let given = match self.number(self.raw, KEY)? {
            Some(positions) => Some(positions),
            None => self.number(rope, KEY)?,
        };
        let positions = match given {
            Some(positions) => positions,
            None if self.raw.get("model_type").and_then(Value::as_str) == Some("phi3") => 4096.0,
            None => self.context()? as f64,
        };
        if positions > 1.0 { Ok(positions) } else { Err(self.unsupported(KEY, &positions.to_string(), "above 1")) }
    }

    fn context(&self) -> Result<usize, Error> {
        self.required("max_position_embeddings")
    }
}
