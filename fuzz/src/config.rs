//! `config.json`: what is accepted is within bounds, and says so again.
use std::path::Path;

use bpo_model::{DecoderConfig, PositionKind};

/// A configuration that reads has sizes that can be multiplied, one window per layer, and reads the same again.
pub fn config(data: &[u8]) {
    let path = Path::new("config.json");
    match DecoderConfig::from_json(path, data) {
        Ok(config) => {
            let again = DecoderConfig::from_json(path, config.raw.to_string().as_bytes()).expect("it was read");
            assert_eq!(again, config);
            assert_eq!(config.windows.len(), config.num_hidden_layers);
            assert!(config.num_attention_heads.is_multiple_of(config.num_key_value_heads));
            let is_rotated = config.positions == PositionKind::Rotary;
            assert!(config.head_dim > 0 && (!is_rotated || config.rotary_dim.is_multiple_of(2)));
            let sizes = [config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers];
            assert!(sizes.iter().all(|size| (1..=1 << 22).contains(size)), "{sizes:?}");
            assert!(config.norm_eps > 0.0 && config.rope.theta > 0.0);
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("config.json") && message.len() < 3000, "{message}");
        }
    }
}
