//! Laying pairs out, and the order of prompts: host work of every step.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use bpo_data::{Group, PromptOrder, packed, padded, shared_prefix};
use criterion::{Criterion, criterion_group, criterion_main};

fn layouts(criterion: &mut Criterion) {
    let ids = |salt: usize, count: usize| (0..count).map(|i| ((i + salt) * 1009 % 49_152) as u32).collect::<Vec<_>>();
    let rows: Vec<_> = (0..64).map(|i| (ids(i, 20 + i), [ids(i + 1, 64), ids(i + 2, 10 + i)])).collect();
    let groups: Vec<Group<'_>> =
        rows.iter().map(|(prompt, [a, b])| Group { prompt, completions: vec![a, b] }).collect();
    let mut group = criterion.benchmark_group("64 pairs");
    group.bench_function("padded", |bench| bench.iter(|| black_box(padded(&groups, 0).unwrap())));
    group.bench_function("shared prefix", |bench| bench.iter(|| black_box(shared_prefix(&groups, 0).unwrap())));
    group.bench_function("packed", |bench| bench.iter(|| black_box(packed(&groups, 0, 4096).unwrap())));
}

fn order(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prompts of a step");
    for prompts in [1_000, 100_000] {
        group.bench_function(format!("8 of {prompts}"), |bench| {
            bench.iter(|| black_box(PromptOrder::new(prompts, 42).at(black_box(17), 8)));
        });
    }
}

criterion_group!(benches, layouts, order);
criterion_main!(benches);
