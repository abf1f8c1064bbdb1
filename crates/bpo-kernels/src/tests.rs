//! Every kernel against the composed operation in f64, values and gradients, and on shapes that leave remainders.
use std::sync::Arc;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use proptest::prelude::*;

use crate::{
    Branch, CacheView, Heads, Visibility, attention, attention_decode, composed, is_fused, linear, lora_linear,
    rms_norm, rotate, softmax, swiglu,
};

/// Reproducible values in (−1, 1).
fn random(seed: u64, length: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..length).map(|_| next()).collect()
}

fn device() -> Device {
    Device::flex()
}

/// The same values in f32 and in f64, as leaves of a graph.
fn pair<const D: usize>(seed: u64, shape: [usize; D]) -> [Tensor<D>; 2] {
    let data = TensorData::new(random(seed, shape.iter().product()), shape);
    let single = Tensor::from_data(data, (&device().autodiff(), DType::F32));
    let double = Tensor::<D>::cast(single.clone(), FloatDType::F64).detach();
    [single.require_grad(), double.require_grad()]
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_to_vec().unwrap()
}

/// The largest difference, relative to the largest expected value or to 1.
fn distance(actual: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(1f64, |scale, value| scale.max(value.abs()));
    actual.iter().zip(expected).map(|(a, e)| (a - e).abs()).fold(0.0, f64::max) / scale
}

/// Checks `fused` in f32 against `composed` in f64: the result, and the gradient of a weighted sum in every input.
fn agree<const N: usize>(
    shapes: [[usize; 2]; N],
    fused: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    composed: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) {
    let pairs: [_; N] = std::array::from_fn(|i| pair(i as u64 + 1, shapes[i]));
    let (singles, doubles) = (pairs.clone().map(|[single, _]| single), pairs.map(|[_, double]| double));
    assert!(is_fused(&singles[0]) && !is_fused(&doubles[0]));
    let (actual, expected) = (fused(singles.clone()), composed(doubles.clone()));
    let weights = pair(99, actual.dims()).map(|weights| weights.inner());
    let [single, double] = weights;
    let grads = (actual.clone() * Tensor::from_inner(single)).sum().backward();
    let expected_grads = (expected.clone() * Tensor::from_inner(double)).sum().backward();
    let error = distance(&host(actual), &host(expected));
    assert!(error < 3e-6, "value: {error:e}");
    for (index, (single, double)) in singles.iter().zip(&doubles).enumerate() {
        let actual = host(single.grad(&grads).unwrap());
        let error = distance(&actual, &host(double.grad(&expected_grads).unwrap()));
        assert!(error < 1e-5, "gradient of input {index}: {error:e}");
    }
}

#[test]
fn linear_on_few_and_many_rows() {
    for [m, k, n] in [[1, 64, 64], [3, 19, 7], [5, 576, 49], [8, 33, 130], [24, 40, 3], [25, 40, 3], [70, 100, 65]] {
        agree([[m, k], [n, k]], |[x, w]| linear(x, w), |[x, w]| composed::linear(x, w));
    }
}

#[test]
fn lora_linear_and_its_five_products() {
    for [m, k, n, r] in [[1, 32, 48, 4], [9, 24, 17, 16], [60, 48, 96, 8]] {
        agree(
            [[m, k], [n, k], [r, k], [n, r]],
            |[x, w, a, b]| lora_linear(x, w, Branch { a, b, scaling: 2.0 }),
            |[x, w, a, b]| composed::linear(x.clone(), w) + composed::linear(composed::linear(x, a), b) * 2.0,
        );
    }
}

#[test]
fn rms_norm_and_swiglu_and_rotation() {
    for [rows, width] in [[1, 8], [7, 20], [130, 576]] {
        let norm = |of: fn(Tensor<2>, Tensor<1>, f64) -> Tensor<2>| {
            move |[x, w]: [Tensor<2>; 2]| of(x, w.squeeze_dim(0), 1e-5)
        };
        agree([[rows, width], [1, width]], norm(rms_norm), norm(composed::rms_norm));
        agree([[rows, width], [rows, width]], |[g, u]| swiglu(g * 8.0, u), |[g, u]| composed::swiglu(g * 8.0, u));
    }
    let [cos, sin] = [pair(5, [6, 4]), pair(6, [6, 4])];
    let table = |side: usize| (cos[side].clone().inner(), sin[side].clone().inner());
    let constant = |x: Tensor<2>| Tensor::from_inner(x);
    agree(
        [[6, 24]],
        |[x]| rotate(x, constant(table(0).0), constant(table(0).1)),
        |[x]| composed::rotate(x, constant(table(1).0), constant(table(1).1)),
    );
}

/// Rows of a prompt with two completions behind it, padding at the end, under a window.
fn tree(rows: usize, [prompt, first, second, pad]: [usize; 4], window: usize) -> Visibility {
    let time = prompt + first + second + pad;
    Visibility::new(rows, time, |query| {
        let (start, place) = (query / time * time, query % time);
        let near = |from: usize| from.max((place + 1).saturating_sub(window));
        let own = if place < prompt {
            0
        } else if place < prompt + first {
            prompt
        } else {
            prompt + first
        };
        let seen = if place >= time - pad {
            vec![place..place + 1]
        } else if place < prompt + first {
            vec![near(0)..place + 1]
        } else {
            vec![near(0)..prompt, near(own)..place + 1]
        };
        let kept: Vec<_> = seen.into_iter().filter(|range| !range.is_empty()).collect();
        kept.into_iter().map(move |range| range.start + start..range.end + start)
    })
}

#[test]
fn attention_under_trees_windows_and_padding() {
    let cases = [
        (1, [1, 0, 0, 0], 99, Heads { query: 2, key_value: 2, dim: 4 }),
        (2, [5, 3, 4, 2], 99, Heads { query: 6, key_value: 2, dim: 16 }),
        (3, [40, 50, 70, 9], 99, Heads { query: 3, key_value: 1, dim: 32 }),
        (2, [40, 50, 70, 9], 21, Heads { query: 4, key_value: 4, dim: 8 }),
    ];
    for (rows, shape, window, heads) in cases {
        let visibility = Arc::new(tree(rows, shape, window));
        assert!(visibility.parts().len() >= rows, "rows are independent");
        let tokens = visibility.queries();
        let (wide, narrow) = ([tokens, heads.query * heads.dim], [tokens, heads.key_value * heads.dim]);
        let doubles = Arc::new(tree(rows, shape, window));
        agree(
            [wide, narrow, narrow],
            |[q, k, v]| attention([q * 3.0, k, v], &visibility, heads, 0.7),
            |[q, k, v]| composed::attention([q * 3.0, k, v], &doubles, heads, 0.7),
        );
    }
}

#[test]
fn decoding_attends_to_each_rows_own_columns() {
    let heads = Heads { query: 6, key_value: 2, dim: 12 };
    let (rows, capacity) = (3, 17);
    let view = CacheView::new(vec![0..1, 4..17, 0..9]);
    let cache = [rows, heads.key_value, capacity, heads.dim];
    let [q, q64] = pair(1, [rows, heads.query * heads.dim]).map(Tensor::inner);
    let [k, k64] = pair(2, cache).map(Tensor::inner);
    let [v, v64] = pair(3, cache).map(Tensor::inner);
    let actual = attention_decode(q, [k, v], &Arc::new(view), heads, 2.0);
    let view = CacheView::new(vec![0..1, 4..17, 0..9]);
    let expected = composed::attention_decode(q64, [k64, v64], &view, heads, 2.0);
    assert!(distance(&host(actual), &host(expected)) < 3e-6);
}

#[test]
fn softmax_in_place_and_of_shared_logits() {
    for (rows, width, factor) in [(1, 5, 1.0), (3, 1000, 30.0), (9, 4097, 80.0)] {
        // Scaled in f32, so that both see the same logits.
        let logits = pair(4, [rows, width])[0].clone().inner() * factor;
        let doubles = Tensor::<2>::cast(logits.clone(), FloatDType::F64);
        let kept = logits.clone();
        let before = host(kept.clone());
        let (expected, expected_normalisers) = composed::softmax(doubles);
        let (shared, _) = softmax(logits);
        assert_eq!(host(kept.clone()), before, "shared logits were overwritten");
        let (owned, normalisers) = softmax(kept);
        assert_eq!(host(shared), host(owned.clone()));
        assert!(distance(&host(owned), &host(expected)) < 3e-6);
        assert!(distance(&host(normalisers), &host(expected_normalisers)) < 1e-6);
    }
}

#[test]
fn what_is_not_finite_stays_visible() {
    let logits = |values: [f32; 4]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [1, 4]), &device());
    assert!(host(softmax(logits([0.0, f32::NAN, 1.0, 2.0])).1)[0].is_nan());
    assert!(!host(softmax(logits([0.0, f32::INFINITY, 1.0, 2.0])).0).iter().all(|p| p.is_finite()));
    let masked = host(softmax(logits([0.0, f32::NEG_INFINITY, 0.0, 0.0])).0);
    assert_eq!(masked[1], 0.0);
    let gate = logits([f32::NAN, -200.0, 200.0, 0.0]);
    let out = host(swiglu(gate, Tensor::ones([1, 4], &device())));
    assert!(out[0].is_nan() && out[1].abs() < 1e-30 && out[2] == 200.0 && out[3] == 0.0, "{out:?}");
}

proptest! {
    #[test]
    fn exp_is_within_two_units_in_the_last_place(x in -87.2f32..88.2) {
        let (actual, expected) = (f64::from(crate::cpu::math::exp(x)), f64::from(x).exp());
        prop_assert!((actual / expected - 1.0).abs() < 2.4e-7, "{actual} {expected}");
    }

    #[test]
    fn parts_are_the_components_of_what_is_seen(seen in prop::collection::vec(0usize..6, 1..24)) {
        let reach = |query: usize| query.saturating_sub(seen[query])..query + 1;
        let visibility = Visibility::new(1, seen.len(), |query| [reach(query)]);
        let cuts: Vec<usize> = (0..seen.len()).filter(|&cut| (cut..seen.len()).all(|q| reach(q).start >= cut)).collect();
        let starts: Vec<usize> = visibility.parts().iter().map(|part| part.start).collect();
        prop_assert_eq!(starts, cuts);
        prop_assert_eq!(visibility.parts().iter().map(|part| part.len()).sum::<usize>(), seen.len());
    }
}
