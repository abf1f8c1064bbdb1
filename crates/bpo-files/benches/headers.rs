//! What it costs to know where every tensor of a model lies, without reading one: the safetensors crate checks as much
//! of a header as it needs to be safe in memory, this one all that a stranger's file may have wrong.
#![allow(missing_docs, clippy::unwrap_used)]

use bpo_files::safetensors;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// The header of a model of `layers` layers with nine tensors each, and bytes for all of them.
fn model(layers: usize) -> Vec<u8> {
    let mut at = 0;
    let entries: Vec<String> = (0..layers * 9)
        .map(|tensor| {
            let (start, end) = (at, at + 16);
            at = end;
            let name = format!("model.layers.{}.self_attn.part_{}.weight", tensor / 9, tensor % 9);
            format!(r#""{name}":{{"dtype":"F32","shape":[2,2],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; at]].concat()
}

fn headers(criterion: &mut Criterion) {
    for layers in [30, 300] {
        let file = model(layers);
        let mut group = criterion.benchmark_group(format!("{} tensors", layers * 9));
        group.throughput(Throughput::Elements(layers as u64 * 9));
        group.bench_function("checked", |bench| bench.iter(|| safetensors::in_memory("model", &file).unwrap().len()));
        group.bench_function("safetensors", |bench| {
            bench.iter(|| ::safetensors::SafeTensors::deserialize(&file).unwrap().len());
        });
    }
}

criterion_group!(benches, headers);
criterion_main!(benches);
