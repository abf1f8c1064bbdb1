use std::collections::BTreeSet;

use bpo_model::{Adapter, Checkpoint, Decoder, DecoderConfig, LoraConfig, Parameters, WeightDtype, write_model};
use bpo_sampler::{CausalLm, GenerateConfig, Request, Sampling, StreamKey, generate};
use burn::tensor::{Device, Tensor};

use crate::tiny::{families, logps};

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

fn worst(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap_or(0.0)
}

/// Random branches: a fresh adapter has `B = 0` and would hide mistakes.
fn adapter(model: &Decoder, config: LoraConfig) -> Adapter {
    let adapter = Adapter::new(model, config, 1).unwrap();
    let filled = adapter.weights().map(|name, tensor| {
        let salt = name.len() as f32;
        let values: Vec<f32> =
            (0..tensor.dims().iter().product()).map(|i: usize| ((i as f32 * 0.7 + salt).sin()) * 0.2).collect();
        Tensor::from_data(burn::tensor::TensorData::new(values, tensor.dims()), &tensor.device())
    });
    adapter.with_weights(filled)
}

#[test]
fn sampled_log_probs_equal_the_full_forward_whatever_the_batch() {
    let prompts: Vec<Vec<u32>> = vec![vec![3], vec![7, 1, 44, 9, 30, 2, 8], vec![5, 60, 2], vec![9; 20], vec![4, 4]];
    let samples = |prompt| (0..3).map(|slot| StreamKey { seed: 1, step: 0, prompt, slot }).collect();
    let requests: Vec<Request<'_>> =
        prompts.iter().zip(0..).map(|(prompt, index)| Request { prompt, samples: samples(index) }).collect();
    for (name, model) in families() {
        let sampled = |batch_size, sampling| {
            let config = GenerateConfig {
                max_new_tokens: 12,
                min_new_tokens: 0,
                batch_size,
                sampling,
                eos_ids: vec![0, 8, 11, 17, 23, 29, 31],
                sampled_vocab: None,
            };
            generate(&model, &requests, &config, |_| {}).unwrap()
        };
        for sampling in [Sampling::default(), Sampling::greedy()] {
            let alone = sampled(1, sampling.clone());
            let lengths: BTreeSet<usize> = alone.iter().flatten().map(|c| c.tokens.len()).collect();
            assert!(lengths.len() > 1, "{name}: rows must finish apart: {lengths:?}");
            // Rows that leave and enter in several ways: many passes, some, one.
            for batch_size in [2, 5, 15] {
                let together = sampled(batch_size, sampling.clone());
                for ((prompt, one), other) in prompts.iter().zip(&alone).zip(&together) {
                    for (one, other) in one.iter().zip(other) {
                        assert_eq!(one.tokens, other.tokens, "{name}, {batch_size} rows");
                        let full = logps(&model, prompt, &other.tokens);
                        assert!(worst(&other.logps, &full) < 2e-5, "{name}: {:?} {full:?}", other.logps);
                    }
                }
            }
        }
    }
}

#[test]
fn a_cache_grows_past_its_reserve() {
    let (_, model) = families().remove(0);
    let (mut cache, _) = model.prefill(&[&[1, 2, 3]]);
    let mut logits = Vec::new();
    for token in [4, 5, 6, 7] {
        logits = host(model.step(&mut cache, &[token]));
    }
    let (_, full) = model.prefill(&[&[1, 2, 3, 4, 5, 6, 7]]);
    assert!(worst(&logits, &host(full)) < 1e-4);
}

#[test]
fn merging_changes_no_log_prob() {
    for (name, model) in families() {
        for use_rslora in [false, true] {
            let config = LoraConfig { r: 3, lora_alpha: 7.0, use_rslora, ..LoraConfig::default() };
            let adapted = model.with_adapter(&adapter(&model, config), 0.0).unwrap();
            let (branch, merged) =
                (logps(&adapted, &[1, 2], &[3, 4, 5]), logps(&adapted.merged(), &[1, 2], &[3, 4, 5]));
            assert!(worst(&branch, &merged) < 1e-4, "{name}");
            let base = logps(&model, &[1, 2], &[3, 4, 5]);
            assert!(worst(&branch, &base) > 1e-3, "{name}: the adapter does nothing");
        }
    }
}

#[test]
fn a_written_adapter_reads_back_bit_for_bit() {
    let (_, model) = families().remove(0);
    let config = LoraConfig {
        r: 2,
        target_modules: vec!["q_proj".into(), "down_proj".into(), "lm_head".into()],
        alpha_pattern: vec![("down_proj".into(), 5.0)],
        ..LoraConfig::default()
    };
    let adapter = adapter(&model, config);
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in adapter.to_peft("base").unwrap() {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let read = Adapter::from_dir(dir.path(), &Device::flex()).unwrap();
    assert_eq!(adapter.to_peft("base").unwrap(), read.to_peft("base").unwrap());
    let score = |adapter: &Adapter| logps(&model.with_adapter(adapter, 0.0).unwrap(), &[1, 2], &[3, 4]);
    assert_eq!(score(&adapter), score(&read));
}

#[test]
fn a_written_model_reads_back() {
    for (name, model) in families() {
        let [(_, config), (_, weights)] = write_model(&model, WeightDtype::F32).unwrap();
        let config = DecoderConfig::from_json("config.json".as_ref(), &config).unwrap();
        let checkpoint = Checkpoint::from_bytes("memory", weights).unwrap();
        let read = Decoder::from_checkpoint(config, &checkpoint, &Device::flex()).unwrap();
        assert_eq!(logps(&model, &[1, 2], &[3, 4, 5]), logps(&read, &[1, 2], &[3, 4, 5]), "{name}");
    }
}

#[test]
fn parameters_round_trip_through_bytes_and_models() {
    for (name, model) in families() {
        let parameters = model.parameters();
        let bytes = parameters.to_bytes().unwrap();
        let read = Parameters::from_bytes("memory", &bytes, &Device::flex()).unwrap();
        assert_eq!(bytes, read.to_bytes().unwrap());
        let doubled = model.with_parameters(&read.map(|_, tensor| tensor * 1.5));
        let restored = doubled.with_parameters(&read);
        assert_ne!(logps(&model, &[1, 2], &[3, 4]), logps(&doubled, &[1, 2], &[3, 4]), "{name}");
        assert_eq!(logps(&model, &[1, 2], &[3, 4]), logps(&restored, &[1, 2], &[3, 4]), "{name}");
    }
}

#[test]
fn an_adapter_of_another_model_is_refused_by_name() {
    let (_, model) = families().remove(0);
    let other = Decoder::random(crate::tiny::config(serde_json::json!({"hidden_size": 12})), 1, &Device::flex());
    let adapter = adapter(&other.unwrap(), LoraConfig::default());
    let error = model.with_adapter(&adapter, 0.0).unwrap_err().to_string();
    assert!(error.contains("model.layers.0.self_attn.q_proj"), "{error}");
}

#[test]
fn an_adapter_whose_tensors_have_another_rank_is_refused() {
    let (_, model) = families().remove(0);
    let adapter = adapter(&model, LoraConfig { r: 2, ..LoraConfig::default() });
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in adapter.to_peft("base").unwrap() {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let path = dir.path().join("adapter_config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("\"r\": 2", "\"r\": 3")).unwrap();
    let error = Adapter::from_dir(dir.path(), &Device::flex()).unwrap_err().to_string();
    assert!(error.contains("rank 2") && error.contains("says 3"), "{error}");
    std::fs::write(
        &path,
        config.replace("\"r\": 2", "\"r\": 3").replace("\"rank_pattern\": {}", "\"rank_pattern\": {\".*_proj\": 2}"),
    )
    .unwrap();
    Adapter::from_dir(dir.path(), &Device::flex()).unwrap();
}
