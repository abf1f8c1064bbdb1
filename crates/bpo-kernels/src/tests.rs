//! Every kernel against the composed operation in f64, values and gradients, and on shapes that leave remainders.
use std::sync::Arc;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use proptest::prelude::*;

use crate::{
    Branch, CacheView, Heads, Visibility, add_lora, attention, attention_decode, composed, is_fused, linear,
    linear_transposed, lora_linear, rms_norm, rotate, softmax, swiglu, write_columns,
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

/// The largest difference, relative to the largest expected value (or to 0.1: what cancels to zero is as exact as its
/// terms); infinite where anything is not a number.
fn distance(actual: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(0.1f64, |scale, value| scale.max(value.abs()));
    let errors = actual.iter().zip(expected).map(|(a, e)| (a - e).abs() / scale);
    errors.map(|error| if error.is_nan() { f64::INFINITY } else { error }).fold(0.0, f64::max)
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
    for [m, k, n] in [[1, 64, 64], [3, 19, 7], [5, 576, 49], [8, 33, 130], [64, 40, 3], [65, 40, 3], [70, 100, 65]] {
        agree([[m, k], [n, k]], |[x, w]| linear(x, w), |[x, w]| composed::linear(x, w));
    }
    let none = Tensor::<2>::zeros([0, 8], &device());
    assert_eq!(linear(none, Tensor::ones([3, 8], &device())).dims(), [0, 3]);
}

/// The values of `weight` as bf16 keeps them, in bf16 and in f64.
fn halved(weight: Tensor<2>) -> [Tensor<2>; 2] {
    let kept = weight.inner().cast(FloatDType::BF16);
    [Tensor::from_inner(kept.clone()), Tensor::from_inner(kept.cast(FloatDType::F64))]
}

#[test]
fn a_bf16_weight_computes_what_its_values_do() {
    // Odd widths cannot be read as vectors; 2,100,000 weights are widened in two blocks.
    let shapes = [
        [1, 64, 64],
        [3, 19, 7],
        [5, 576, 49],
        [8, 34, 130],
        [64, 40, 3],
        [65, 40, 3],
        [70, 101, 65],
        [66, 21000, 100],
    ];
    for [m, k, n] in shapes {
        let [weight, exact] = halved(pair(7, [n, k])[0].clone());
        agree([[m, k]], |[x]| linear(x, weight.clone()), |[x]| composed::linear(x, exact.clone()));
        let [single, double] = pair(8, [m, n]).map(|x| x.inner());
        let error = distance(
            &host(linear_transposed(single, weight.clone().inner())),
            &host(double.matmul(exact.clone().inner())),
        );
        assert!(error < 3e-6, "{m} × {n} × {k} transposed: {error:e}");
        agree(
            [[m, k], [4, k], [n, 4]],
            |[x, a, b]| lora_linear(x, weight.clone(), Branch { a, b, scaling: 2.0 }),
            |[x, a, b]| composed::lora_linear(x, exact.clone(), Branch { a, b, scaling: 2.0 }),
        );
    }
    let [weight, _] = halved(pair(7, [3, 8])[0].clone());
    assert_eq!(linear(Tensor::zeros([0, 8], &device()), weight.inner()).dims(), [0, 3]);
}

/// bf16 inputs, where a device computes in them: sums and exponentials are f32's.
#[test]
fn composed_operations_take_bf16_and_sum_in_f32() {
    let rounded = |seed, shape| halved(pair(seed, shape)[0].clone()).map(|tensor| tensor.inner());
    let [x, exact] = rounded(1, [9, 512]);
    let [scale, exact_scale] = rounded(2, [1, 512]).map(|scale| scale.squeeze_dim::<1>(0));
    let normed = rms_norm(x.clone() * 100.0, scale, 1e-5);
    assert_eq!(normed.dtype(), DType::BF16);
    let error = distance(&host(normed), &host(composed::rms_norm(exact.clone(), exact_scale, 1e-5)));
    assert!(error < 8e-3, "norm: {error:e}");
    let (probabilities, normalisers) = softmax(x.clone() * 4.0);
    assert_eq!([probabilities.dtype(), normalisers.dtype()], [DType::F32; 2]);
    let (expected, expected_normalisers) = composed::softmax(exact.clone() * 4.0);
    let error = distance(&host(probabilities), &host(expected));
    assert!(error < 1e-6, "probabilities: {error:e}");
    let error = distance(&host(normalisers.unsqueeze::<2>()), &host(expected_normalisers.unsqueeze::<2>()));
    assert!(error < 1e-6, "normalisers: {error:e}");
    let [weight, exact_weight] = rounded(3, [64, 512]);
    let [a, exact_a] = pair(4, [4, 512]);
    let [b, exact_b] = pair(5, [64, 4]);
    let branch = |a, b| Branch { a, b, scaling: 1.0 };
    let y = lora_linear(Tensor::from_inner(x), Tensor::from_inner(weight), branch(a.clone(), b));
    assert_eq!(y.dtype(), DType::BF16);
    let expected = composed::lora_linear(
        Tensor::from_inner(exact),
        Tensor::from_inner(exact_weight),
        branch(exact_a.clone(), exact_b),
    );
    let gradient = a.grad(&y.clone().cast(FloatDType::F32).sum().backward()).unwrap();
    assert_eq!(gradient.dtype(), DType::F32, "the branch is trained in f32");
    let error = distance(&host(gradient), &host(exact_a.grad(&expected.clone().sum().backward()).unwrap()));
    assert!(error < 2e-2, "gradient: {error:e}");
    let error = distance(&host(y), &host(expected));
    assert!(error < 1e-2, "branch: {error:e}");
}

#[test]
fn lora_linear_and_its_five_products() {
    for [m, k, n, r] in [[1, 32, 48, 4], [9, 24, 17, 16], [60, 48, 96, 8]] {
        agree(
            [[m, k], [n, k], [r, k], [n, r]],
            |[x, w, a, b]| lora_linear(x, w, Branch { a, b, scaling: 2.0 }),
            |[x, w, a, b]| x.clone().matmul(w.transpose()) + x.matmul((b.matmul(a) * 2.0).transpose()),
        );
        agree(
            [[m, n], [m, k], [r, k], [n, r]],
            |[y, x, a, b]| add_lora(y, x, Branch { a, b, scaling: 0.5 }),
            |[y, x, a, b]| y + x.matmul((b.matmul(a) * 0.5).transpose()),
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
        let seen = match place {
            _ if place >= time - pad => [place..place + 1, 0..0],
            _ if place < prompt + first => [near(0)..place + 1, 0..0],
            _ => [near(0)..prompt, near(own)..place + 1],
        };
        let kept: Vec<_> = seen.into_iter().filter(|range| !range.is_empty()).collect();
        kept.into_iter().map(move |range| range.start + start..range.end + start)
    })
}

#[test]
fn attention_under_trees_windows_and_padding() {
    let cases = [
        (1, [1, 0, 0, 0], 99, Heads::new(2, 2, 4)),
        (2, [5, 3, 4, 2], 99, Heads::new(6, 2, 16)),
        (3, [40, 50, 70, 9], 99, Heads::new(3, 1, 32)),
        (2, [40, 50, 70, 9], 21, Heads::new(4, 4, 8)),
    ];
    for (rows, shape, window, heads) in cases {
        let visibility = Arc::new(tree(rows, shape, window));
        let tokens = visibility.queries();
        let (wide, narrow) = ([tokens, heads.query_width()], [tokens, heads.key_value_width()]);
        agree(
            [wide, narrow, narrow],
            |[q, k, v]| attention([q * 3.0, k, v], &visibility, heads, 0.7),
            |[q, k, v]| attention([q * 3.0, k, v], &visibility, heads, 0.7),
        );
    }
}

/// Also that one view serves several float types, and one key head any number of query heads.
#[test]
fn decoding_attends_to_each_rows_own_columns() {
    for heads in [Heads::new(6, 2, 12), Heads::new(53, 1, 8)] {
        let (room, rows, capacity) = (5, 3, 17);
        let view = Arc::new(CacheView::new(vec![0..1, 4..17, 0..9]));
        let cache = [room, heads.key_value(), capacity, heads.dim()];
        let [q, k, v] = [pair(1, [rows, 1, 1, heads.query_width()]), pair(2, cache), pair(3, cache)];
        let mixed = |side: usize| {
            let at = |pair: &[Tensor<4>; 2]| pair[side].clone().inner();
            let q = at(&q).reshape([rows, heads.query_width()]);
            host(attention_decode(q, [at(&k), at(&v)], &view, heads, 2.0))
        };
        assert!(distance(&mixed(0), &mixed(1)) < 3e-6);
    }
}

#[test]
fn columns_are_written_where_they_belong_and_nowhere_else() {
    let [cache, doubles] = pair(1, [3, 2, 5, 4]).map(Tensor::inner);
    let [new, new_doubles] = pair(2, [2, 8]).map(Tensor::inner);
    let (columns, kept) = (Arc::new(vec![4, 0]), cache.clone());
    let before = host(kept.clone());
    let expected = host(write_columns(doubles, &columns, new_doubles));
    assert_eq!(host(write_columns(cache, &columns, new.clone())), expected);
    assert_eq!(host(kept.clone()), before, "a shared cache was overwritten");
    assert_eq!(host(write_columns(kept, &columns, new)), expected);
}

/// What a LoRA step runs: only the branches are tracked.
#[test]
fn frozen_weights_cost_no_gradient_and_change_none() {
    let shapes = [[9, 24], [17, 24], [16, 24], [17, 16]];
    let [x, w, a, b] = std::array::from_fn::<_, 4, _>(|i| pair(i as u64 + 1, shapes[i]));
    let run = |side: usize, frozen: bool| {
        let tensor = |pair: &[Tensor<2>; 2]| pair[side].clone();
        let weight = if frozen { tensor(&w).inner() } else { tensor(&w) };
        let weight = if frozen { Tensor::from_inner(weight) } else { weight };
        let out = lora_linear(tensor(&x), weight, Branch { a: tensor(&a), b: tensor(&b), scaling: 2.0 });
        let grads = (out.clone() * out).sum().backward();
        assert_eq!(tensor(&w).grad(&grads).is_none(), frozen);
        [&x, &a, &b].map(|leaf| host(tensor(leaf).grad(&grads).unwrap()))
    };
    assert_eq!(run(0, true), run(0, false));
    for (frozen, expected) in run(0, true).iter().zip(&run(1, true)) {
        assert!(distance(frozen, expected) < 1e-5);
    }
}

/// Results may depend on how many rows there are, by rounding, but never on how many threads.
#[test]
fn the_number_of_threads_changes_no_bit() {
    let heads = Heads::new(4, 2, 32);
    let bits = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let visibility = Arc::new(tree(3, [40, 50, 70, 9], 99));
            let tokens = visibility.queries();
            let leaves: [Tensor<2>; 4] = [
                pair(1, [tokens, 96])[0].clone(),
                pair(2, [128, 96])[0].clone(),
                pair(3, [64, 96])[0].clone(),
                pair(4, [1, 128])[0].clone(),
            ];
            let [x, wide, narrow, norm] = leaves.clone();
            let few = linear(x.clone().narrow(0, 0, 20), Tensor::cat(vec![wide.clone(); 9], 0));
            let q = rms_norm(linear(x.clone(), wide), norm.squeeze_dim(0), 1e-5);
            let (k, v) = (linear(x.clone(), narrow.clone()), linear(x, narrow));
            let mixed = attention([q.clone(), k, v], &visibility, heads, 0.2);
            let out = swiglu(mixed, q);
            let grads = (out.clone() * out.clone()).sum().add(few.clone().sum()).backward();
            let mut all = vec![host(few), host(out)];
            all.extend(leaves.iter().map(|leaf| host(leaf.grad(&grads).unwrap())));
            all
        })
    };
    assert_eq!(bits(1), bits(3));
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
    fn parts_are_as_small_as_what_is_seen_allows(
        rows in 1usize..4,
        time in 1usize..14,
        seen in prop::collection::vec(prop::collection::vec((0usize..14, 1usize..4), 1..3), 42)
    ) {
        let ranges = |query: usize| {
            let mut keys = vec![false; time];
            for &(start, length) in &seen[query] {
                keys[start % time..(start % time + length).min(time)].fill(true);
            }
            let first = query / time * time;
            (0..time).filter(|&key| keys[key]).map(|key| first + key..first + key + 1).collect::<Vec<_>>()
        };
        let visibility = Visibility::new(rows, time, ranges);
        let crosses = |cut: usize| (0..rows * time)
            .any(|query| ranges(query).iter().any(|key| (query < cut) != (key.start < cut)));
        let cuts: Vec<usize> = (0..rows * time).filter(|&cut| !crosses(cut)).collect();
        let starts: Vec<usize> = visibility.parts().iter().map(|part| part.start).collect();
        prop_assert_eq!(starts, cuts);
        prop_assert_eq!(visibility.parts().iter().map(|part| part.len()).sum::<usize>(), rows * time);
    }
}
