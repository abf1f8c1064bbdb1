use super::{Architecture, DecoderConfig, Keys, NormKind, PositionKind, Residual, Rope, RopeScaling, llama::bounded};
use crate::Error;

impl Keys<'_> {
    /// Radford et al. 2019, "Language models are unsupervised multitask learners".
    pub(super) fn gpt2(&self) -> Result<DecoderConfig, Error> {
        if self.flag("add_cross_attention")? == Some(true) {
            return Err(self.unsupported("add_cross_attention", "true", "decoders by themselves"));
        }
        let [hidden, heads, layers] = [self.required("n_embd")?, self.required("n_head")?, self.required("n_layer")?];
        let head_dim = self.divided(["n_embd", "n_head"], hidden, heads)?;
        let scaled = self.flag("scale_attn_weights")?.unwrap_or(true);
        Ok(DecoderConfig {
            architecture: Architecture::Gpt2,
            vocab_size: self.required("vocab_size")?,
            hidden_size: hidden,
            intermediate_size: self.size("n_inner")?.unwrap_or(hidden.saturating_mul(4)),
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim,
            max_position_embeddings: self.size("n_positions")?.unwrap_or(1024),
            norm: NormKind::Layer,
            norm_eps: self.number(self.raw, "layer_norm_epsilon")?.unwrap_or(1e-5),
            residual: Residual::Sequential,
            positions: PositionKind::Learned,
            rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
            local_rope: None,
            rotary_dim: 0,
            attention_scale: if scaled { (head_dim as f64).powf(-0.5) } else { 1.0 },
            inverse_layer_scale: self.flag("scale_attn_by_inverse_layer_idx")?.unwrap_or(false),
            attention_softcap: None,
            logit_softcap: None,
            activation: self.activation(&["activation_function"], "gelu_new")?,
            gated: false,
            qkv_bias: true,
            output_bias: true,
            mlp_bias: true,
            qk_norm: false,
            tie_word_embeddings: self.flag("tie_word_embeddings")?.unwrap_or(true),
            windows: vec![None; bounded(layers)],
            embedding_scale: None,
            pad_token_id: self.pad_token_id(None)?,
            num_labels: self.num_labels()?,
            raw: self.raw.clone(),
        })
    }
}
