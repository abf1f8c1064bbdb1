use super::{
    Architecture, DecoderConfig, Keys, NormKind, Residual,
    llama::{Defaults, bounded},
};
use crate::Error;

impl Keys<'_> {
    /// Black et al. 2022, arXiv:2204.06745.
    pub(super) fn gpt_neox(&self) -> Result<DecoderConfig, Error> {
        let defaults = Defaults { kv_heads: None, head_dim: None, positions: 2048 };
        let common = self.common(Architecture::GptNeox, &defaults)?;
        let biased = self.flag("attention_bias")?.unwrap_or(true);
        let parallel = self.flag("use_parallel_residual")?.unwrap_or(true);
        let share = self.rotated_share("rotary_pct", 0.25)?;
        let heads = common.num_attention_heads;
        let head_dim = self.divided(["hidden_size", "num_attention_heads"], common.hidden_size, heads)?;
        Ok(DecoderConfig {
            num_key_value_heads: heads,
            head_dim,
            attention_scale: (head_dim as f64).powf(-0.5),
            norm: NormKind::Layer,
            norm_eps: self.number(self.raw, "layer_norm_eps")?.unwrap_or(1e-5),
            residual: if parallel { Residual::Parallel } else { Residual::Sequential },
            rope: self.rope_by("rotary_emb_base")?,
            rotary_dim: (head_dim as f64 * share) as usize,
            activation: self.activation(&["hidden_act"], "gelu")?,
            gated: false,
            qkv_bias: biased,
            output_bias: biased,
            mlp_bias: true,
            windows: vec![None; bounded(common.num_hidden_layers)],
            ..common
        })
    }
}
