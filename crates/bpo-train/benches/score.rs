//! Log-probs of pairs and their gradients in each layout: what a prompt read once and rows without padding save.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, time::Duration};

use bpo_data::{Group, Layout, packed, padded, shared_prefix};
use bpo_model::{Adapter, Decoder, DecoderConfig, LoraConfig};
use bpo_train::{Trainable, backward, sequence_logps};
use burn::tensor::Device;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;

const VOCAB: usize = 4096;

/// Two layers of SmolLM2-135M's widths.
fn model() -> Decoder {
    let config = json!({
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 2, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
        "max_position_embeddings": 2048, "tie_word_embeddings": true,
    });
    let config = DecoderConfig::from_json("config.json".as_ref(), config.to_string().as_bytes()).unwrap();
    Decoder::random(config, 1, &Device::flex()).unwrap()
}

/// Pairs behind a prompt, one response half as long as the other.
fn rows(pairs: usize, prompt: usize, response: usize) -> Vec<(Vec<u32>, [Vec<u32>; 2])> {
    let ids = |salt: usize, count: usize| (0..count).map(|i| ((i + salt) * 1009 % VOCAB) as u32).collect::<Vec<_>>();
    (0..pairs).map(|i| (ids(i, prompt), [ids(7 * i + 1, response), ids(7 * i + 2, response / 2)])).collect()
}

fn layouts(criterion: &mut Criterion) {
    let base = model();
    let adapter = Adapter::new(&base, LoraConfig { r: 16, ..LoraConfig::default() }, 1).unwrap();
    let trainable = Trainable::Lora(adapter);
    for (shape, prompt, response) in [("helpful", 60, 120), ("tldr", 400, 64)] {
        let rows = rows(4, prompt, response);
        let groups: Vec<Group<'_>> =
            rows.iter().map(|(prompt, [first, second])| Group { prompt, completions: vec![first, second] }).collect();
        let layouts: [(&str, Layout); 3] = [
            ("padded", padded(&groups, 0).unwrap()),
            ("shared prefix", shared_prefix(&groups, 0).unwrap()),
            ("packed", packed(&groups, 0, 4096).unwrap()),
        ];
        let mut group = criterion.benchmark_group(shape);
        group.throughput(Throughput::Elements(groups.len() as u64));
        for (name, layout) in &layouts {
            group.bench_function(format!("{name}, scored"), |bench| {
                let policy = trainable.model(&base).unwrap();
                bench.iter(|| black_box(sequence_logps(&policy, layout).unwrap()));
            });
            group.bench_function(format!("{name}, backward"), |bench| {
                bench.iter(|| {
                    let (policy, _) = trainable.tracked(&base).unwrap();
                    black_box(backward(&policy, layout, |scored| Ok(vec![1.0; scored.sums.len()])).unwrap().0)
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3));
    targets = layouts
}
criterion_main!(benches);
