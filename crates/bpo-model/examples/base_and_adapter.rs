//! A base, a LoRA adapter on it, the adapter as PEFT's files and back, and both as one plain model.
//!
//!     cargo run --release -p bpo-model --example base_and_adapter -- MODEL_DIR
//!
//! Without a folder, a small random model.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "an example tells what it does")]

use std::{error::Error, path::Path};

use bpo_model::{Adapter, Decoder, DecoderConfig, LoraConfig};
use burn::tensor::{Device, Tensor};

const SMALL: &[u8] = br#"{"model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 4}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let base = match std::env::args().nth(1) {
        Some(dir) => Decoder::from_dir(Path::new(&dir), &device)?,
        None => Decoder::random(DecoderConfig::from_json("config.json".as_ref(), SMALL)?, 1, &device)?,
    };
    let adapter = Adapter::new(&base, LoraConfig { r: 4, lora_alpha: 8.0, ..LoraConfig::default() }, 2)?;
    let adapter = adapter.with_weights(adapter.weights().map(|_, weight| weight + 0.01)); // as if it had been trained
    println!("{} numbers on {} layers", adapter.weights().count(), adapter.modules().count());

    let folder = std::env::temp_dir().join(format!("base-and-adapter-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    for (name, bytes) in adapter.to_peft("the-base")? {
        std::fs::write(folder.join(name), bytes)?; // adapter_config.json, adapter_model.safetensors
    }
    let read = Adapter::from_dir(&folder, &device)?;
    std::fs::remove_dir_all(&folder)?;

    let policy = base.with_adapter(&read, 0.0)?; // shares the base's weights
    let merged = policy.merged(); // a plain model of its own
    let [before, with, folded] = [&base, &policy, &merged].map(hidden);
    let distance = |a: Tensor<2>, b: Tensor<2>| (a - b).abs().max().into_scalar::<f32>();
    let (moved, apart) =
        (distance(before?, with.as_ref().map_err(ToString::to_string)?.clone()), distance(with?, folded?));
    println!("the adapter moves hidden states by {moved:.3}; folded in, they differ by {apart:.1e}");
    assert!(moved > 1e-3 && apart < 1e-3);
    Ok(())
}

fn hidden(model: &Decoder) -> Result<Tensor<2>, bpo_model::Error> {
    let input = model.input([1, 5], &[3, 1, 4, 1, 5], &[0, 1, 2, 3, 4], |_row, _query, _key| true)?;
    Ok(model.hidden(&input))
}
