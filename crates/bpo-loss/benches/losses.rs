//! Every loss on 4,096 pairs in f32 on `flex`: forward, and forward with backward.
//!
//! `cargo bench -p bpo-loss` is criterion's; `-- --json ROUNDS` prints medians in microseconds for
//! `bench/peer/losses.py` to set against PyTorch's, process by process in turn.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::{hint::black_box, time::Instant};

use bpo_loss::{FDivergence, LossType, Objective, PairLogps};
use burn::tensor::{Device, Tensor, TensorData};
use criterion::Criterion;

const PAIRS: usize = 4096;

fn main() {
    match std::env::args().skip_while(|argument| argument != "--json").nth(1) {
        Some(rounds) => println!("{}", serde_json::Value::Object(medians(rounds.parse().unwrap()))),
        None => by_criterion(),
    }
}

fn by_criterion() {
    let mut criterion = Criterion::default().configure_from_args();
    let pairs = Pairs::new();
    for (name, objective) in objectives() {
        let mut group = criterion.benchmark_group(name);
        group.bench_function("forward", |bencher| bencher.iter(|| pairs.forward(&objective)));
        group.bench_function("backward", |bencher| bencher.iter(|| pairs.backward(&objective)));
        group.finish();
    }
    criterion.final_summary();
}

/// `{"loss": [forward, forward and backward], …}`.
fn medians(rounds: usize) -> serde_json::Map<String, serde_json::Value> {
    let pairs = Pairs::new();
    let measured = |(name, objective): (String, Objective)| {
        let forward = median(rounds, || pairs.forward(&objective));
        let backward = median(rounds, || pairs.backward(&objective));
        (name, serde_json::json!([forward, backward]))
    };
    objectives().map(measured).collect()
}

/// Median time of a call in microseconds.
fn median(rounds: usize, mut call: impl FnMut()) -> f64 {
    (0..rounds / 10).for_each(|_| call());
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}

fn objectives() -> impl Iterator<Item = (String, Objective)> {
    let losses =
        LossType::ALL.into_iter().map(|loss| (loss.to_string(), Objective { label_smoothing: 0.1, ..loss.into() }));
    let divergences = [
        ("forward_kl", FDivergence::ForwardKl),
        ("js_divergence", FDivergence::JsDivergence),
        ("alpha_divergence", FDivergence::AlphaDivergence { coefficient: 0.5 }),
    ];
    losses.chain(
        divergences
            .map(|(name, divergence)| (format!("sigmoid, {name}"), Objective { divergence, ..Objective::default() })),
    )
}

struct Pairs {
    policy: [Tensor<1>; 2],
    reference: PairLogps,
    lengths: [Tensor<1>; 2],
}

impl Pairs {
    fn new() -> Self {
        let device = Device::flex().autodiff();
        let row = |of: &dyn Fn(usize) -> f32| {
            Tensor::<1>::from_data(TensorData::new((0..PAIRS).map(of).collect(), [PAIRS]), &device)
        };
        // Log-ratios spread over ±5 nats without pattern.
        let spread = |i: usize, step: usize| ((i * step) % PAIRS) as f32 / PAIRS as f32 * 10.0 - 5.0;
        let [chosen, rejected] = [1021, 2039].map(|step| row(&move |i| spread(i, step) - 60.0));
        let [ref_chosen, ref_rejected] = [-60.0, -60.0].map(|logp| row(&move |_| logp));
        let lengths = [29, 31].map(|period| row(&move |i| (i % period) as f32 + 1.0));
        let reference = PairLogps::new(ref_chosen, ref_rejected).unwrap();
        Self { policy: [chosen, rejected], reference, lengths }
    }

    fn losses(&self, objective: &Objective) -> (PairLogps, Tensor<1>) {
        let [chosen, rejected] = self.policy.clone().map(Tensor::require_grad);
        let [chosen_lengths, rejected_lengths] = self.lengths.clone();
        let policy = PairLogps::new(chosen, rejected).unwrap().with_lengths(chosen_lengths, rejected_lengths).unwrap();
        let losses = objective.losses(&policy, &self.reference).unwrap();
        (policy, losses)
    }

    fn forward(&self, objective: &Objective) {
        black_box(self.losses(objective).1.mean());
    }

    fn backward(&self, objective: &Objective) {
        let (policy, losses) = self.losses(objective);
        let gradients = losses.mean().backward();
        black_box([&policy.chosen, &policy.rejected].map(|leaf| leaf.grad(&gradients)));
    }
}
