//! What a verdict costs where no model is asked: the lexicon, by length of the text.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use bpo_annotate::Lexicon;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn lexicon(criterion: &mut Criterion) {
    // As many words as VADER's list has; one in ten is in the text.
    let words: String = (0..7_500).map(|i| format!("word{i}\t{}\n", f64::from(i % 9) - 4.0)).collect();
    let lexicon = Lexicon::from_bytes("bench", words.as_bytes()).unwrap();
    let mut group = criterion.benchmark_group("lexicon");
    for length in [20, 100, 500] {
        let text: String = (0..length)
            .map(|i| if i % 10 == 0 { format!("word{} ", i * 7 % 7_500) } else { "plainly ".to_owned() })
            .collect();
        group.throughput(Throughput::Elements(length as u64));
        group.bench_with_input(BenchmarkId::from_parameter(format!("{length} words")), &text, |bench, text| {
            bench.iter(|| black_box(lexicon.compound(black_box(text))));
        });
    }
}

criterion_group!(benches, lexicon);
criterion_main!(benches);
