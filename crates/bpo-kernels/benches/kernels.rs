//! The kernels against burn's own operations at the shapes of a 135-million-parameter decoder.
use std::{hint::black_box, sync::Arc, time::Duration};

use bpo_kernels::{
    Branch, CacheView, Heads, Visibility, attention, attention_decode, linear, lora_linear, rms_norm, softmax, swiglu,
};
use burn::tensor::{Device, Distribution, FloatDType, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// Products of few rows (sampling) and of many (scoring), in multiply-adds per second.
fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear");
    for (inputs, outputs) in [(576, 1536), (1536, 576), (576, 49152)] {
        let weight = random([outputs, inputs]);
        let half = weight.clone().cast(FloatDType::BF16);
        for rows in [1, 4, 8, 16, 32, 64, 128, 512] {
            let x = random([rows, inputs]);
            group.throughput(Throughput::Elements((rows * inputs * outputs) as u64));
            let shape = format!("{rows}x{inputs}x{outputs}");
            group.bench_function(BenchmarkId::new("bpo", &shape), |bench| {
                bench.iter(|| black_box(linear(x.clone(), weight.clone())));
            });
            group.bench_function(BenchmarkId::new("bpo-bf16", &shape), |bench| {
                bench.iter(|| black_box(linear(x.clone(), half.clone())));
            });
            group.bench_function(BenchmarkId::new("burn", &shape), |bench| {
                bench.iter(|| black_box(x.clone().matmul(weight.clone().transpose())));
            });
        }
    }
}

/// A layer with its LoRA branch, forward and back to input and branch: the three products of the layer are two, since
/// its own weight is frozen.
fn lora(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lora");
    let (rows, inputs, outputs, rank) = (1024, 576, 1536, 16);
    let leaf = |tensor: Tensor<2>| tensor.autodiff().require_grad();
    let (weight, x) = (random([outputs, inputs]), leaf(random([rows, inputs])));
    let (a, b) = (leaf(random([rank, inputs])), leaf(random([outputs, rank])));
    group.throughput(Throughput::Elements((2 * rows * (inputs * outputs + 3 * rank * (inputs + outputs) / 2)) as u64));
    group.bench_function("bpo", |bench| {
        let branch = || Branch { a: a.clone(), b: b.clone(), scaling: 2.0 };
        bench.iter(|| black_box(lora_linear(x.clone(), weight.clone(), branch()).sum().backward()));
    });
    group.bench_function("burn", |bench| {
        let weight = weight.clone().autodiff();
        bench.iter(|| {
            let thin = x.clone().matmul(a.clone().transpose()).matmul(b.clone().transpose());
            black_box((x.clone().matmul(weight.clone().transpose()) + thin * 2.0).sum().backward())
        });
    });
}

/// Attention of 9 query heads over 3 key heads of width 64: eight packed prompts with two completions each, forward and
/// back, and one token for 16 rows of 120.
fn attending(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    let heads = Heads::new(9, 3, 64);
    let [prompt, completion, groups] = [60, 64, 8];
    let part = prompt + 2 * completion;
    let tokens = groups * part;
    let visibility = Arc::new(Visibility::new(1, tokens, |query| {
        let (start, place) = (query / part * part, query % part);
        let own = if place < prompt { start } else { start + prompt + (place - prompt) / completion * completion };
        let shared = (place >= prompt).then_some(start..start + prompt);
        shared.into_iter().chain(std::iter::once(own..query + 1))
    }));
    let leaf = |width: usize| random([tokens, width]).autodiff().require_grad();
    let (q, k, v) = (leaf(576), leaf(192), leaf(192));
    group.bench_function("packed-backward", |bench| {
        bench.iter(|| {
            let inputs = [q.clone(), k.clone(), v.clone()];
            black_box(attention(inputs, &visibility, heads, 0.125).sum().backward())
        });
    });
    let (rows, room) = (16, 128);
    let view = Arc::new(CacheView::new(vec![0..120; rows]));
    let (q, keys, values) = (random([rows, 576]), random([rows, 3, room, 64]), random([rows, 3, room, 64]));
    group.bench_function("decode", |bench| {
        bench.iter(|| black_box(attention_decode(q.clone(), [keys.clone(), values.clone()], &view, heads, 0.125)));
    });
}

fn pointwise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pointwise");
    let (x, scale) = (random([1024, 576]), Tensor::ones([576], &Device::flex()));
    group.bench_function("rms_norm", |bench| bench.iter(|| black_box(rms_norm(x.clone(), scale.clone(), 1e-5))));
    let (gate, up) = (random([1024, 1536]), random([1024, 1536]));
    group.bench_function("swiglu", |bench| bench.iter(|| black_box(swiglu(gate.clone(), up.clone()))));
    let logits = random([128, 49152]);
    group.bench_function("softmax", |bench| bench.iter(|| black_box(softmax(logits.clone() + 0.0))));
}

fn quick() -> Criterion {
    let (measured, before) = (Duration::from_secs(1), Duration::from_millis(300));
    Criterion::default().sample_size(20).measurement_time(measured).warm_up_time(before)
}

criterion_group! {
    name = benches;
    config = quick();
    targets = products, lora, attending, pointwise
}
criterion_main!(benches);
