//! The kernels against burn's own operations at the shapes of a 135-million-parameter decoder.
use std::hint::black_box;

use bpo_kernels::{linear, rms_norm, softmax, swiglu};
use burn::tensor::{Device, Distribution, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn random(shape: [usize; 2]) -> Tensor<2> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// Products of few rows (sampling) and of many (scoring), in multiply-adds per second.
fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear");
    for (inputs, outputs) in [(576, 1536), (1536, 576), (576, 49152)] {
        let weight = random([outputs, inputs]);
        for rows in [1, 4, 8, 16, 24, 32, 128, 512] {
            let x = random([rows, inputs]);
            group.throughput(Throughput::Elements((rows * inputs * outputs) as u64));
            let shape = format!("{rows}x{inputs}x{outputs}");
            group.bench_function(BenchmarkId::new("bpo", &shape), |bench| {
                bench.iter(|| black_box(linear(x.clone(), weight.clone())));
            });
            group.bench_function(BenchmarkId::new("burn", &shape), |bench| {
                bench.iter(|| black_box(x.clone().matmul(weight.clone().transpose())));
            });
        }
    }
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

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = products, pointwise
}
criterion_main!(benches);
