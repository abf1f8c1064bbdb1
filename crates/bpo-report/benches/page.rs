//! What a run's pictures cost at its end: everything read back from the run's folder, the page, one TensorBoard event.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use bpo_report::{Record, Texts, page, tensorboard};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};

/// A tokenizer of letters.
struct Letters;

impl Texts for Letters {
    fn prompt(&self, id: usize) -> Option<String> {
        Some(format!("prompt {id}"))
    }

    fn decode(&self, tokens: &[u32]) -> Option<String> {
        tokens.iter().map(|&token| char::from_u32(u32::from(b'a') + token % 26)).collect()
    }
}

fn metrics(step: u64, steps: u64) -> Value {
    let wave = (step as f64 / 9.0).sin();
    json!({"step": step + 1, "phase": 4 * step / steps, "loss": 0.7 + 0.01 * wave, "rewards/margins": wave,
        "rewards/accuracies": 0.5 + 0.1 * wave, "objective/kl": 0.2, "collect/length": 44.0})
}

/// A run of eight prompts a step with two completions of 64 tokens each.
fn run(dir: &Path, steps: u64) {
    let store = bpo_store::RunDir::open(dir).unwrap();
    store.write("recipe.toml", b"model = \"model\"\nreference = \"behaviour\"\n").unwrap();
    let (mut lines, mut journal) = (store.metrics(None).unwrap(), store.journal().unwrap());
    let sample = json!({"tokens": (0..64).collect::<Vec<_>>(), "logps": vec![-1.25; 64], "eos": true, "text": "words"});
    for step in 0..steps {
        let drawn: Vec<Value> =
            (0..8).map(|row| json!({"prompt": step * 8 + row, "samples": [sample, sample]})).collect();
        let judged = vec![json!({"pair": [0, 1], "verdict": "second", "scores": [0.1, 0.9]}); 8];
        journal.append(step, "sampled", json!(drawn).to_string().as_bytes()).unwrap();
        journal.append(step, "judged", json!(judged).to_string().as_bytes()).unwrap();
        lines.append(&metrics(step, steps)).unwrap();
    }
}

fn pictures(criterion: &mut Criterion) {
    const STEPS: u64 = 500;
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), STEPS);
    let mut group = criterion.benchmark_group("run of 500 steps");
    group.throughput(Throughput::Elements(STEPS));
    group.bench_function("read", |bench| bench.iter(|| Record::read(folder.path(), &Letters).unwrap().steps()));
    let record = Record::read(folder.path(), &Letters).unwrap();
    group.bench_function("page", |bench| bench.iter(|| page(&record, &[]).len()));
    group.finish();
    let events = tempfile::tempdir().unwrap();
    let mut writer = tensorboard::EventWriter::create(events.path(), 0, 0.0).unwrap();
    let line = metrics(1, STEPS);
    criterion.bench_function("TensorBoard event", |bench| {
        bench.iter(|| writer.scalars(1, 0.0, line.as_object().unwrap()).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = pictures
}
criterion_main!(benches);
