//! Four layers of SmolLM2-135M's widths with random weights, LoRA r 16: scoring, its backward pass, sampling.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{convert::Infallible, hint::black_box, time::Duration};

use bpo_model::{Adapter, Decoder, DecoderConfig, LoraConfig};
use bpo_sampler::CausalLm;
use burn::tensor::Device;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;

const VOCAB: usize = 4096;

fn model() -> Decoder {
    let config = json!({
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 4, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
        "max_position_embeddings": 2048, "tie_word_embeddings": true,
    });
    let config = DecoderConfig::from_json("config.json".as_ref(), config.to_string().as_bytes()).unwrap();
    Decoder::random(config, 1, &Device::flex()).unwrap()
}

fn ids(count: usize) -> Vec<u32> {
    (0..count).map(|i| (i * 1009 % VOCAB) as u32).collect()
}

/// Rows of 128 tokens: hidden states alone, with gradients, and with layers computed twice.
fn training(criterion: &mut Criterion) {
    let base = model();
    let adapter = Adapter::new(&base, LoraConfig { r: 16, ..LoraConfig::default() }, 1).unwrap();
    let (rows, time) = (4, 128);
    let positions: Vec<u32> = (0..rows).flat_map(|_| 0..time as u32).collect();
    let input = base.input([rows, time], &ids(rows * time), &positions, |_, _, _| true).unwrap();
    let mut group = criterion.benchmark_group("decoder");
    group.throughput(Throughput::Elements((rows * time) as u64));
    group.bench_function("hidden", |bench| bench.iter(|| black_box(base.hidden(&input))));
    for (name, checkpointing) in [("backward", false), ("backward, layers computed twice", true)] {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let adapter = adapter.with_weights(adapter.weights().tracked());
                let model = base.with_adapter(&adapter, 0.0).unwrap().with_gradient_checkpointing(checkpointing);
                black_box(model.backward(&input, |hidden| Ok::<_, Infallible>(((), hidden.sum()))).ok());
            });
        });
    }
}

/// One token for each of some rows behind prompts of 60.
fn sampling(criterion: &mut Criterion) {
    let model = model();
    let prompt = ids(60);
    let mut group = criterion.benchmark_group("step");
    for rows in [1usize, 8, 32] {
        let (mut cache, _) = model.prefill(&vec![prompt.as_slice(); rows]);
        let mut steps = 0;
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("{rows} rows"), |bench| {
            bench.iter(|| {
                // Positions stay near what training samples.
                if steps % 64 == 0 {
                    cache = model.prefill(&vec![prompt.as_slice(); rows]).0;
                }
                steps += 1;
                black_box(model.step(&mut cache, &vec![7; rows]))
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3));
    targets = training, sampling
}
criterion_main!(benches);
