use super::{
    Architecture, DecoderConfig, Keys,
    llama::{Defaults, bounded},
};
use crate::Error;

impl Keys<'_> {
    /// Abdin et al. 2024, arXiv:2404.14219.
    pub(super) fn phi3(&self) -> Result<DecoderConfig, Error> {
        let defaults = Defaults { kv_heads: None, head_dim: None, positions: 4096 };
        let common = self.common(Architecture::Phi3, &defaults)?;
        let share = self.rotated_share("partial_rotary_factor", 1.0)?;
        Ok(DecoderConfig {
            norm_eps: self.number(self.raw, "rms_norm_eps")?.unwrap_or(1e-5),
            rope: self.rope_by("rope_theta")?,
            rotary_dim: (common.head_dim as f64 * share) as usize,
            activation: self.activation(&["hidden_act"], "silu")?,
            windows: vec![self.window()?; bounded(common.num_hidden_layers)],
            pad_token_id: self.pad_token_id(Some(32_000))?,
            ..common
        })
    }
}
