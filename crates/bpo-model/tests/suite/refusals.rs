//! What would be computed wrongly is refused by name.
use std::{fs, path::Path};

use bpo_model::{Adapter, Checkpoint, Decoder, Error, LoraConfig, WeightDtype, write_model};
use burn::tensor::Device;
use serde_json::{Value, json};

use crate::tiny::config;

fn model(changes: Value) -> Decoder {
    Decoder::random(config(changes), 5, &Device::flex()).unwrap()
}

#[test]
fn a_weight_that_half_precision_cannot_hold_is_named() {
    let model = model(json!({}));
    let huge = model.parameters().map(|name, tensor| if name == "model.norm.weight" { tensor * 1e6 } else { tensor });
    let huge = model.with_parameters(&huge);
    let error = write_model(&huge, WeightDtype::F16).unwrap_err();
    assert!(error.to_string().contains("model.norm.weight") && error.to_string().contains("float16"), "{error}");
    assert!(write_model(&huge, WeightDtype::Bf16).is_ok());
}

#[test]
fn a_bias_that_the_configuration_does_not_know_is_refused() {
    let bytes = |model: &Decoder| write_model(model, WeightDtype::F32).unwrap()[1].1.clone();
    let read = |changes: Value, bytes: Vec<u8>| {
        let checkpoint = Checkpoint::from_bytes("memory", bytes).unwrap();
        Decoder::from_checkpoint(config(changes), &checkpoint, &Device::flex())
    };
    let with_bias = bytes(&model(json!({"attention_bias": true})));
    assert!(read(json!({"attention_bias": true}), with_bias.clone()).is_ok());
    let error = read(json!({}), with_bias).unwrap_err();
    assert!(matches!(&error, Error::UnusedTensor { tensor, .. } if tensor.ends_with("proj.bias")), "{error}");
    let deep = bytes(&model(json!({})));
    assert!(matches!(read(json!({"num_hidden_layers": 1}), deep), Err(Error::UnusedTensor { .. })));
}

#[test]
fn an_adapter_on_a_changed_base_or_without_a_rank_is_refused() {
    let adapter = Adapter::new(&model(json!({})), LoraConfig::default(), 1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |key: &str, value: Value| {
        for (name, bytes) in adapter.to_peft("base").unwrap() {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        change(&dir.path().join("adapter_config.json"), key, value);
        Adapter::from_dir(dir.path(), &Device::flex())
    };
    for good in [json!(true), json!(false), json!("gaussian"), json!("orthogonal"), json!("eva")] {
        assert!(write("init_lora_weights", good.clone()).is_ok(), "{good}");
    }
    for bad in ["pissa", "pissa_niter_16", "olora", "corda", "loftq"] {
        let error = write("init_lora_weights", json!(bad)).unwrap_err();
        assert!(error.to_string().contains(bad), "{error}");
    }
    for bad in [json!(0), json!(-1), json!(1.5), json!("16"), Value::Null] {
        assert!(write("r", bad.clone()).unwrap_err().to_string().contains("`r`"), "{bad}");
    }
}

fn change(path: &Path, key: &str, value: Value) {
    let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}
