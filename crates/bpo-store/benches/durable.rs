//! What durability costs a step: records and sets of files, synced to the disk that holds the temporary directory.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use bpo_store::RunDir;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn durable(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::open(folder.path()).unwrap();
    let mut group = criterion.benchmark_group("durable");
    // Eight prompts with two completions of 64 tokens, as JSON.
    let (record, mut journal, mut step) = (vec![b'7'; 24 << 10], dir.journal().unwrap(), 0);
    group.throughput(Throughput::Bytes(record.len() as u64));
    group.bench_function("journal record", |bench| {
        bench.iter(|| {
            step += 1;
            journal.append(step, "sampled", &record).unwrap();
        });
    });
    // A LoRA adapter of SmolLM2-135M at rank 16 with both moments of its optimiser.
    let (set, mut checkpoints, mut step) = (vec![7; 3 * (20 << 20)], dir.checkpoints().unwrap(), 0);
    group.throughput(Throughput::Bytes(set.len() as u64));
    group.bench_function("checkpoint", |bench| {
        bench.iter(|| {
            step += 1;
            checkpoints.save(step, &[("state.safetensors", &set)]).unwrap();
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3));
    targets = durable
}
criterion_main!(benches);
