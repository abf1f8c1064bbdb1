//! Merges of adapters: against dense arithmetic, and through models and files.
use bpo_model::{
    Adapter, AdapterMerge, Decoder, Error, LoraConfig, LowRank, adapter_spread, merge_adapters, merge_deltas,
};
use burn::tensor::{Device, Tensor, TensorData};
use nalgebra::DMatrix;
use proptest::prelude::*;
use serde_json::json;

use crate::tiny::{config, logps};

const METHODS: [AdapterMerge; 4] =
    [AdapterMerge::Mean, AdapterMerge::Concat, AdapterMerge::Svd(3), AdapterMerge::PeftLinear];

/// Members of one shape and rank, and their factors.
fn ensembles() -> impl Strategy<Value = (Vec<LowRank>, Vec<f64>)> {
    (1..5_usize, 1..6_usize, 1..9_usize, 1..9_usize).prop_flat_map(|(count, rank, inputs, outputs)| {
        let numbers = |count| prop::collection::vec(-2.0..2.0, count);
        let member = (numbers(rank * inputs), numbers(rank * outputs));
        let member = member.prop_map(move |(a, b)| LowRank::new(rank, &a, &b).unwrap());
        (prop::collection::vec(member, count), prop::collection::vec(0.1..2.0, count))
    })
}

fn dense(delta: &LowRank) -> DMatrix<f64> {
    DMatrix::from_row_slice(delta.shape()[0], delta.shape()[1], &delta.product())
}

fn exact(members: &[LowRank], factors: &[f64]) -> DMatrix<f64> {
    members.iter().zip(factors).map(|(member, factor)| dense(member) * *factor).sum()
}

/// What rounding may make of `B·A`. In 200 000 cases, a third of them whole numbers and a third with many zeros,
/// `svd:R` was up to 10 ε·‖B‖·‖A‖ away, the others up to 2.2.
fn rounding(delta: &LowRank) -> f64 {
    let norm = |numbers: &[f64]| numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
    32.0 * f64::EPSILON * norm(delta.a()) * norm(&delta.b())
}

proptest! {
    #[test]
    fn mean_and_concat_are_the_sum_of_the_deltas((members, factors) in ensembles()) {
        let exact = exact(&members, &factors);
        for how in [AdapterMerge::Mean, AdapterMerge::Concat] {
            let (merged, error) = merge_deltas(&members, &factors, how).unwrap();
            prop_assert_eq!(error, 0.0);
            prop_assert!((dense(&merged) - &exact).norm() < 1e-12, "{}", how);
            let cap = if how == AdapterMerge::Mean { exact.nrows().min(exact.ncols()) } else { usize::MAX };
            prop_assert_eq!(merged.rank(), cap.min(members.len() * members[0].rank()));
        }
    }

    #[test]
    fn svd_loses_what_it_says_and_no_more_than_it_must((members, factors) in ensembles(), rank in 1..8_usize) {
        let exact = exact(&members, &factors);
        let (merged, error) = merge_deltas(&members, &factors, AdapterMerge::Svd(rank)).unwrap();
        let found = (dense(&merged) - &exact).norm() / exact.norm();
        prop_assert!((found - error).abs() < 1e-12, "{} {}", found, error);
        let sigma = exact.clone().svd(false, false).singular_values;
        let least = sigma.iter().skip(rank).map(|sigma| sigma * sigma).sum::<f64>().sqrt() / exact.norm();
        prop_assert!((error - least).abs() < 1e-13, "{} {}", error, least);
        prop_assert!(merged.rank() <= rank);
        if rank >= members.len() * members[0].rank() {
            prop_assert!(error < 1e-14, "{}", error);
        }
    }

    #[test]
    fn identical_members_merge_to_the_member_at_its_own_rank((members, _) in ensembles(), count in 1..6_usize) {
        let member = &members[0];
        let clones = vec![member.clone(); count];
        let factors = vec![1.0 / count as f64; count];
        for how in [AdapterMerge::Mean, AdapterMerge::Concat, AdapterMerge::Svd(member.rank())] {
            let (merged, error) = merge_deltas(&clones, &factors, how).unwrap();
            prop_assert!(error < 1e-14);
            let distance = (dense(&merged) - dense(member)).norm();
            prop_assert!(distance <= rounding(member), "{} {}", how, distance);
        }
        let (merged, error) = merge_deltas(&clones, &factors, AdapterMerge::PeftLinear).unwrap();
        prop_assert!((dense(&merged) - dense(member) * count as f64).norm() <= rounding(member) * count as f64);
        prop_assert!((error - (count - 1) as f64).abs() < 1e-7, "{}", error);
    }

    #[test]
    fn peft_linear_reports_its_distance_from_the_mean((members, factors) in ensembles()) {
        let exact = exact(&members, &factors);
        let (merged, error) = merge_deltas(&members, &factors, AdapterMerge::PeftLinear).unwrap();
        let found = (dense(&merged) - &exact).norm();
        prop_assert!((found - error * exact.norm()).abs() < 1e-7 * (1.0 + found), "{} {}", found, error);
        prop_assert!((merged.norm() - dense(&merged).norm()).abs() < 1e-12 * (1.0 + merged.norm()));
    }
}

fn model() -> Decoder {
    Decoder::random(config(json!({})), 5, &Device::flex()).unwrap()
}

fn lora(r: usize, lora_alpha: f64) -> LoraConfig {
    LoraConfig { r, lora_alpha, ..LoraConfig::default() }
}

/// A member with numbers of its own in both factors.
fn member(config: LoraConfig, seed: u64) -> Adapter {
    let adapter = Adapter::new(&model(), config, seed).unwrap();
    let filled = adapter.weights().map(|name, tensor| {
        let salt = name.len() as f32 + seed as f32 * 1.7;
        let count = tensor.dims().iter().product();
        let values: Vec<f32> = (0..count).map(|i: usize| (i as f32 * 0.7 + salt).sin() * 0.1).collect();
        Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
    });
    adapter.with_weights(filled)
}

fn with_alpha(adapter: &Adapter, lora_alpha: f64) -> Adapter {
    let mut adapter = adapter.clone();
    adapter.config.lora_alpha = lora_alpha;
    adapter
}

/// Ranks, scalings and patterns that differ from member to member.
fn mixed() -> [Adapter; 3] {
    let patterned = LoraConfig { alpha_pattern: vec![("q_proj".into(), 5.0)], ..lora(5, 9.0) };
    [member(lora(5, 10.0), 1), member(patterned, 2), member(LoraConfig { use_rslora: true, ..lora(4, 3.0) }, 3)]
}

fn scores(adapter: &Adapter) -> Vec<f32> {
    logps(&model().with_adapter(adapter, 0.0).unwrap(), &[1, 2], &[3, 4, 5, 9])
}

fn worst(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap_or(0.0)
}

/// The base with `Σ w_k·Δ_k` added to its weights, by the export's own arithmetic.
fn dense_scores(members: &[&Adapter], weights: &[f32]) -> Vec<f32> {
    let base = model();
    let mut parameters = base.parameters();
    for (member, weight) in members.iter().zip(weights) {
        let folded = base.with_adapter(member, 0.0).unwrap().merged().parameters();
        parameters = parameters.map(|name, tensor| {
            let delta = folded.get(name).unwrap().clone() - base.parameters().get(name).unwrap().clone();
            tensor + delta * *weight
        });
    }
    logps(&base.with_parameters(&parameters), &[1, 2], &[3, 4, 5, 9])
}

#[test]
fn exact_merges_compute_what_averaged_weights_compute() {
    let [a, b, c] = &mixed();
    let (members, weights) = ([a, b, c], [0.5, 0.2, 0.3]);
    let expected = dense_scores(&members, &weights.map(|weight| weight as f32));
    assert!(worst(&expected, &scores(a)) > 1e-3, "the members do not differ");
    for how in [AdapterMerge::Mean, AdapterMerge::Concat, AdapterMerge::Svd(14)] {
        let merged = merge_adapters(&members, &weights, how).unwrap();
        assert!(merged.error < 1e-14, "{how}: {}", merged.error);
        assert!(worst(&scores(&merged.adapter), &expected) < 1e-4, "{how}");
    }
}

#[test]
fn a_merge_survives_pefts_files_even_where_modules_differ_in_rank() {
    let [a, b, c] = &mixed();
    for how in [AdapterMerge::Mean, AdapterMerge::Concat, AdapterMerge::Svd(13)] {
        let merged = merge_adapters(&[a, b, c], &[1.0 / 3.0; 3], how).unwrap().adapter;
        let a = |module: &str| merged.weights().get(&format!("{module}.lora_A")).unwrap().dims();
        let ranks: Vec<usize> = merged.modules().map(|module| a(module)[0]).collect();
        let uneven = ranks.iter().any(|rank| *rank != ranks[0]);
        assert_eq!(uneven, how != AdapterMerge::Concat, "{how}: {ranks:?}");
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in merged.to_peft("base").unwrap() {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let read = Adapter::from_dir(dir.path(), &Device::flex()).unwrap();
        assert_eq!(scores(&read), scores(&merged), "{how}");
    }
}

#[test]
fn a_single_member_is_its_own_merge_bit_for_bit() {
    let [_, patterned, _] = mixed();
    for how in [AdapterMerge::Mean, AdapterMerge::Concat, AdapterMerge::PeftLinear] {
        let merged = merge_adapters(&[&patterned], &[1.0], how).unwrap();
        assert_eq!(merged.adapter.to_peft("base").unwrap(), patterned.to_peft("base").unwrap(), "{how}");
        assert_eq!(merged.error, 0.0);
    }
}

#[test]
fn a_merge_of_identical_members_is_the_member_except_by_peft_linear() {
    let one = member(lora(3, 6.0), 1);
    let members = [&one, &one, &one, &one];
    for how in METHODS {
        let merged = merge_adapters(&members, &[0.25; 4], how).unwrap();
        let factor = if how == AdapterMerge::PeftLinear { 4.0 } else { 1.0 };
        let expected = with_alpha(&one, 6.0 * factor);
        assert!(worst(&scores(&merged.adapter), &scores(&expected)) < 1e-4, "{how}");
        assert!((merged.error - (factor - 1.0)).abs() < 1e-7, "{how}: {}", merged.error);
    }
}

#[test]
fn the_same_members_merge_to_the_same_bytes() {
    let (one, two) = (member(lora(3, 6.0), 1), member(lora(3, 6.0), 2));
    for how in METHODS {
        let bytes = || merge_adapters(&[&one, &two], &[0.5; 2], how).unwrap().adapter.to_peft("base").unwrap();
        assert_eq!(bytes(), bytes(), "{how}");
    }
}

#[test]
fn spread_is_the_rms_distance_from_the_mean_over_its_norm() {
    let one = member(lora(3, 6.0), 1);
    let scaled = |factor: f64| with_alpha(&one, 6.0 * factor);
    let spread = |others: &[f64]| {
        let members: Vec<Adapter> = others.iter().map(|factor| scaled(*factor)).collect();
        adapter_spread(&members.iter().collect::<Vec<_>>()).unwrap()
    };
    assert_eq!(spread(&[1.0]), 0.0);
    assert!(spread(&[1.0, 1.0, 1.0]) < 1e-7);
    assert!((spread(&[1.0, 3.0]) - 0.5).abs() < 1e-12);
    assert!((spread(&[1.0, 2.0, 6.0]) - (14.0_f64 / 3.0).sqrt() / 3.0).abs() < 1e-12);
    assert!(spread(&[1.0, -1.0]) > 1e6);
    assert_eq!(spread(&[0.0, 0.0]), 0.0);
    assert!(matches!(adapter_spread(&[]), Err(Error::Merge(_))));
}

#[test]
fn members_that_do_not_fit_are_refused_by_name() {
    let (one, two) = (member(lora(3, 6.0), 1), member(lora(2, 6.0), 2));
    let refused = |members: &[&Adapter], weights: &[f64], how, words: &[&str]| {
        let error = merge_adapters(members, weights, how).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused(&[], &[], AdapterMerge::Mean, &["no members"]);
    refused(&[&one, &two], &[1.0], AdapterMerge::Mean, &["1 weights for 2 members"]);
    refused(&[&one, &two], &[0.5, f64::NAN], AdapterMerge::Mean, &["member 2", "NaN"]);
    refused(&[&one, &two], &[0.5, 0.5], AdapterMerge::PeftLinear, &["down_proj", "rank 2", "first has 3"]);
    refused(&[&one, &one], &[1.5, -0.5], AdapterMerge::PeftLinear, &["member 2", "square root"]);
    refused(&[&one, &one], &[0.5, 0.5], AdapterMerge::Svd(0), &["1 or more"]);
    let narrow = LoraConfig { target_modules: vec!["q_proj".into()], ..lora(3, 6.0) };
    let narrow = member(narrow, 1);
    refused(&[&one, &narrow], &[0.5, 0.5], AdapterMerge::Mean, &["does not adapt", "proj"]);
    refused(&[&narrow, &one], &[0.5, 0.5], AdapterMerge::Mean, &["it adapts", "proj"]);
    let wide = Decoder::random(config(json!({"intermediate_size": 44})), 5, &Device::flex()).unwrap();
    let wide = Adapter::new(&wide, lora(3, 6.0), 1).unwrap();
    refused(&[&one, &wide], &[0.5, 0.5], AdapterMerge::Concat, &["down_proj", "44", "40"]);
}

#[test]
fn a_member_that_is_not_finite_is_refused_before_anything_is_computed() {
    let one = member(lora(3, 6.0), 1);
    let broken = one.with_weights(one.weights().map(|name, tensor| match name.contains("v_proj.lora_A") {
        true => tensor.clone().zeros_like() / tensor.zeros_like(),
        false => tensor,
    }));
    for how in METHODS {
        let error = merge_adapters(&[&one, &broken], &[0.5; 2], how).unwrap_err();
        assert!(matches!(&error, Error::NonFinite { tensor, .. } if tensor.contains("v_proj.lora_A")), "{error}");
    }
    let huge = one.with_weights(one.weights().map(|_, tensor| tensor * 1e30));
    assert!(matches!(merge_adapters(&[&huge, &huge], &[1e30; 2], AdapterMerge::Mean), Err(Error::NonFinite { .. })));
}
