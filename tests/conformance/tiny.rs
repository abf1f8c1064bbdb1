//! Tiny models of every family. Their weights are a hash of name and index, here and in `golden.py` alike, so that
//! what transformers computes for them is all that has to be stored.
use bpo_model::{Adapter, Decoder, DecoderConfig, LoraConfig, Parameters};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

/// Number `index` of `name`, in [−1, 1).
fn uniform(name: &str, index: usize) -> f64 {
    let seed = name.bytes().fold(2_166_136_261u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    let mut x = (index as u32).wrapping_mul(0x9E37_79B9).wrapping_add(seed);
    for (shift, factor) in [(16, 0x7FEB_352D), (15, 0x846C_A68B)] {
        x = (x ^ (x >> shift)).wrapping_mul(factor);
    }
    f64::from((x ^ (x >> 16)) / 256) / f64::from(1 << 23) - 1.0
}

/// What a gradient by `name` is multiplied with.
pub fn direction(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let name = format!("direction {name}");
    (0..count).map(move |index| uniform(&name, index))
}

/// Every tensor with its own numbers; `norm` is what norms vary around.
fn filled(parameters: &Parameters, norm: f64) -> Parameters {
    parameters.map(|name, tensor| {
        let (centre, scale) = match name {
            _ if name.contains("norm") => (norm, 0.25),
            _ if name.ends_with(".bias") || name.ends_with(".lora_B") => (0.0, 0.2),
            _ => (0.0, 0.3),
        };
        let count = tensor.dims().iter().product();
        let values: Vec<f32> = (0..count).map(|index| (uniform(name, index) * scale + centre) as f32).collect();
        Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
    })
}

/// The model of a `config.json`.
pub fn model(config: &Value, device: &Device) -> Decoder {
    let parsed = DecoderConfig::from_json("config.json".as_ref(), config.to_string().as_bytes()).unwrap();
    let model = Decoder::random(parsed, 0, device).unwrap();
    let norm = if config["model_type"] == "gemma" { 0.0 } else { 1.0 };
    model.with_parameters(&filled(&model.parameters(), norm))
}

/// An adapter of all its linear layers, both factors filled.
pub fn adapter(model: &Decoder, r: usize, lora_alpha: f64) -> Adapter {
    let config = LoraConfig { r, lora_alpha, lora_dropout: 0.0, ..LoraConfig::default() };
    let adapter = Adapter::new(model, config, 0).unwrap();
    let weights = filled(adapter.weights(), 0.0);
    adapter.with_weights(weights)
}
