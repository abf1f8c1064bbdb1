use serde_json::Value;

use super::{
    Activation, Architecture, DecoderConfig, Keys, NormKind, Residual, Rope, RopeScaling,
    llama::{Defaults, bounded},
};
use crate::Error;

impl Keys<'_> {
    pub(super) fn gemma(&self) -> Result<DecoderConfig, Error> {
        let mut config = self.any_gemma(Architecture::Gemma, 16, 8192)?;
        // The first configs say "gelu" and mean the tanh form.
        if config.activation == Activation::Gelu {
            config.activation = Activation::GeluTanh;
        }
        Ok(DecoderConfig { rope: self.rope()?, windows: vec![None; bounded(config.num_hidden_layers)], ..config })
    }

    /// Riviere et al. 2024, arXiv:2408.00118.
    pub(super) fn gemma2(&self) -> Result<DecoderConfig, Error> {
        let config = self.any_gemma(Architecture::Gemma2, 4, 8192)?;
        Ok(DecoderConfig {
            rope: self.rope()?,
            attention_softcap: self.number_or("attn_logit_softcapping", 50.0)?,
            logit_softcap: self.number_or("final_logit_softcapping", 30.0)?,
            windows: self.alternating(config.num_hidden_layers, 2)?,
            ..self.sandwiched(config)?
        })
    }

    /// Gemma Team 2025, arXiv:2503.19786. Its `attn_logit_softcapping` has no effect in transformers either.
    pub(super) fn gemma3(&self) -> Result<DecoderConfig, Error> {
        let config = self.any_gemma(Architecture::Gemma3, 4, 131_072)?;
        let every = self.size("sliding_window_pattern")?.or(self.size("_sliding_window_pattern")?).unwrap_or(6);
        Ok(DecoderConfig {
            rope: self.rope_of("full_attention", "rope_theta", 1_000_000.0, "rope_scaling")?,
            local_rope: Some(self.rope_of("sliding_attention", "rope_local_base_freq", 10_000.0, "")?),
            qk_norm: true,
            logit_softcap: self.number(self.raw, "final_logit_softcapping")?,
            windows: self.alternating(config.num_hidden_layers, every)?,
            ..self.sandwiched(config)?
        })
    }

    fn any_gemma(&self, architecture: Architecture, kv_heads: usize, positions: usize) -> Result<DecoderConfig, Error> {
        let defaults = Defaults { kv_heads: Some(kv_heads), head_dim: Some(256), positions };
        let common = self.common(architecture, &defaults)?;
        let biased = self.flag("attention_bias")?.unwrap_or(false);
        Ok(DecoderConfig {
            norm: NormKind::RmsUnitOffset,
            activation: self.activation(&["hidden_activation", "hidden_act"], "gelu_pytorch_tanh")?,
            qkv_bias: biased,
            output_bias: biased,
            tie_word_embeddings: self.flag("tie_word_embeddings")?.unwrap_or(true),
            embedding_scale: Some((common.hidden_size as f64).sqrt()),
            pad_token_id: self.pad_token_id(Some(0))?,
            ..common
        })
    }

    /// What Gemma 2 and 3 have in common beyond Gemma.
    fn sandwiched(&self, config: DecoderConfig) -> Result<DecoderConfig, Error> {
        let scalar = self.number(self.raw, "query_pre_attn_scalar")?.unwrap_or(256.0);
        Ok(DecoderConfig { residual: Residual::Sandwich, attention_scale: scalar.powf(-0.5), ..config })
    }

    /// Windows by `layer_types`, or in all layers but each `every`-th.
    fn alternating(&self, layers: usize, every: usize) -> Result<Vec<Option<usize>>, Error> {
        let window = if self.is_given("sliding_window") { self.window()? } else { Some(4096) };
        let Some(window) = window else {
            return Err(self.unsupported("sliding_window", "null", "a window of at least 1"));
        };
        if every == 0 {
            return Err(self.unsupported("sliding_window_pattern", "0", "at least 1"));
        }
        let by_pattern = || (1..=bounded(layers)).map(|layer| (layer % every != 0).then_some(window)).collect();
        Ok(self.typed_windows(layers, Some(window))?.unwrap_or_else(by_pattern))
    }

    /// Frequencies of one type of layer: of transformers 5 in `rope_parameters`, of transformers 4 beside it.
    fn rope_of(&self, layer_type: &str, theta_key: &str, theta: f64, scaling_key: &str) -> Result<Rope, Error> {
        let typed = self.filled("rope_parameters").and_then(|all| all.get(layer_type)).filter(|rope| rope.is_object());
        let nested = typed.map_or(Ok(None), |rope| self.number(rope, "rope_theta"))?;
        let theta = match nested {
            Some(theta) => theta,
            None => self.number(self.raw, theta_key)?.unwrap_or(theta),
        };
        let legacy: Option<&Value> = self.filled(scaling_key);
        let scaling = legacy.or(typed).map_or(Ok(RopeScaling::Default), |rope| self.scaling(rope))?;
        Ok(Rope { theta, scaling })
    }
}
