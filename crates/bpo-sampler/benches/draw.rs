//! One draw from a row of 49,152 logits (SmolLM2's vocabulary): all of it, the top k, the nucleus.
#![allow(missing_docs)]

use std::hint::black_box;

use bpo_sampler::{Admissible, Sampling, StreamKey};
use criterion::{Criterion, criterion_group, criterion_main};

const VOCAB: usize = 49_152;

/// Logits spread over ±10 nats without pattern: a nucleus of 0.9 keeps some thousands of them.
fn logits() -> Vec<f32> {
    (0..VOCAB).map(|i| (i * 20_011 % VOCAB) as f32 / VOCAB as f32 * 20.0 - 10.0).collect()
}

fn draw(criterion: &mut Criterion) {
    let mut logits = logits();
    let mut group = criterion.benchmark_group("draw");
    let settings = [
        ("greedy", Sampling::greedy()),
        ("full", Sampling::default()),
        ("top_k 50", Sampling { top_k: 50, ..Sampling::default() }),
        ("top_p 0.9", Sampling { top_p: 0.9, ..Sampling::default() }),
    ];
    for (name, sampling) in settings {
        let mut stream = StreamKey { seed: 42, step: 0, prompt: 0, slot: 0 }.stream();
        group.bench_function(name, |bencher| {
            bencher.iter(|| sampling.draw(black_box(&mut logits), Admissible::below(VOCAB), &mut stream));
        });
    }
    group.finish();
}

criterion_group!(benches, draw);
criterion_main!(benches);
