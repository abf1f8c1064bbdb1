//! bf16 weights: exact under f32 arithmetic, close to it under bf16 arithmetic.
use bpo_model::{Adapter, Checkpoint, Decoder, Dtype, LoraConfig, Precision, WeightDtype, write_model};
use bpo_sampler::{GenerateConfig, Request, Sampling, StreamKey, generate};
use burn::tensor::{Device, FloatDType, Tensor};

use crate::tiny::{families, logps};

/// The family's model as a bf16 file holds it.
fn stored(model: &Decoder) -> Checkpoint {
    let files = write_model(model, WeightDtype::Bf16).unwrap();
    let (_, bytes) = files.into_iter().find(|(name, _)| *name == "model.safetensors").unwrap();
    Checkpoint::from_bytes("memory", bytes).unwrap()
}

fn read(model: &Decoder, file: &Checkpoint, precision: Precision) -> Decoder {
    Decoder::in_precision(model.config().clone(), file, &Device::flex(), precision).unwrap()
}

const BF16: Precision = Precision { weights: FloatDType::BF16, activations: FloatDType::BF16 };

/// An adapter that does something.
fn adapter(model: &Decoder) -> Adapter {
    let adapter = Adapter::new(model, LoraConfig { r: 4, ..LoraConfig::default() }, 1).unwrap();
    adapter.with_weights(adapter.weights().map(|_, tensor| (tensor * 3.0 + 0.4).sin() * 0.1))
}

fn greedy(model: &Decoder) -> Vec<(Vec<u32>, Vec<f32>)> {
    let prompts: [&[u32]; 3] = [&[3, 7, 9], &[1], &[5, 60, 2, 8, 8]];
    let sample = |prompt| vec![StreamKey { seed: 1, step: 0, prompt, slot: 0 }];
    let requests: Vec<Request<'_>> =
        prompts.iter().zip(0..).map(|(prompt, index)| Request { prompt, samples: sample(index) }).collect();
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let config = GenerateConfig {
        max_new_tokens: 8,
        min_new_tokens: 0,
        batch_size: 2,
        sampling,
        eos_ids: Vec::new(),
        sampled_vocab: None,
    };
    let completions = generate(model, &requests, &config, |_| {}).unwrap();
    completions.into_iter().flatten().map(|completion| (completion.tokens, completion.logps)).collect()
}

#[test]
fn a_bf16_file_loses_nothing_when_its_matrices_stay_bf16() {
    for (name, model) in families() {
        let file = stored(&model);
        let device = Device::flex();
        assert_eq!(Dtype::Auto.precision(&file, &device), Precision::bf16(&device));
        assert_eq!(Precision::bf16(&device).activations, FloatDType::F32);
        let [single, half] = [Precision::default(), Precision::bf16(&device)].map(|p| read(&model, &file, p));
        let adapter = adapter(&single);
        let with_branches = |model: &Decoder| model.with_adapter(&adapter, 0.0).unwrap();
        for (single, half) in [(single.clone(), half.clone()), (with_branches(&single), with_branches(&half))] {
            let (prompt, response) = ([3, 7, 9, 12], [5, 60, 2, 44, 1, 8]);
            let error = worst(&logps(&single, &prompt, &response), &logps(&half, &prompt, &response));
            assert!(error < 2e-5, "{name}: {error:e}");
            let (single, half) = (greedy(&single.for_sampling()), greedy(&half.for_sampling()));
            for (single, half) in single.iter().zip(&half) {
                assert_eq!(single.0, half.0, "{name}: tokens");
                assert!(worst(&single.1, &half.1) < 2e-5, "{name}: sampled log-probs");
            }
        }
    }
}

#[test]
fn an_f32_file_stays_f32_unless_bf16_is_asked_for() {
    let (_, model) = families().swap_remove(0);
    let files = write_model(&model, WeightDtype::F32).unwrap();
    let (_, bytes) = files.into_iter().find(|(name, _)| *name == "model.safetensors").unwrap();
    let file = Checkpoint::from_bytes("memory", bytes).unwrap();
    let device = Device::flex();
    assert_eq!(Dtype::Auto.precision(&file, &device), Precision::default());
    assert_eq!(Dtype::Bfloat16.precision(&file, &device), Precision::bf16(&device));
    let rounded = read(&model, &file, Precision::bf16(&device));
    let exact = read(&model, &stored(&model), Precision::default());
    let (prompt, response) = ([3, 7, 9, 12], [5, 60, 2, 44, 1, 8]);
    assert!(worst(&logps(&rounded, &prompt, &response), &logps(&exact, &prompt, &response)) < 2e-5);
}

/// What a GPU does: products in bf16, with norms, softmaxes and everything trained in f32.
#[test]
fn bf16_arithmetic_stays_close_and_trains_f32_parameters() {
    for (name, model) in families() {
        let file = stored(&model);
        let [single, half] = [Precision::default(), BF16].map(|precision| read(&model, &file, precision));
        let adapter = adapter(&single);
        let (mut values, mut slopes) = (Vec::new(), Vec::new());
        for model in [&single, &half] {
            let leaves = adapter.weights().tracked();
            let tracked = model.with_adapter(&adapter.with_weights(leaves.clone()), 0.0).unwrap();
            values.push(logps(&model.with_adapter(&adapter, 0.0).unwrap(), &[3, 7, 9], &[5, 60, 2, 44]));
            let ids = [3, 7, 9, 5, 60, 2, 44];
            let input = tracked.input([1, 7], &ids, &[0, 1, 2, 3, 4, 5, 6], |_, _, _| true).unwrap();
            let (_, mut gradients) =
                tracked.backward(&input, |hidden| Ok::<_, ()>(((), hidden.cast(FloatDType::F32).sin().sum()))).unwrap();
            let taken = leaves.iter().flat_map(|(_, leaf)| {
                let gradient = gradients.take(leaf).unwrap();
                assert_eq!(gradient.dtype(), burn::tensor::DType::F32);
                gradient.try_into_vec_as::<f32>().unwrap()
            });
            slopes.push(taken.collect::<Vec<f32>>());
        }
        // 8 bits of mantissa through two layers with weights thirty times those of a real model.
        let error = worst(&values[0], &values[1]);
        assert!(error < 0.3, "{name}: {error}");
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let cosine = dot(&slopes[0], &slopes[1]) / (dot(&slopes[0], &slopes[0]) * dot(&slopes[1], &slopes[1])).sqrt();
        assert!(cosine > 0.99, "{name}: cosine of gradients {cosine}");
    }
}

fn worst(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap_or(0.0)
}

/// A sum over the final hidden states has the same gradients whether layers are kept or computed twice, dropout and
/// trained embeddings included.
#[test]
fn gradient_checkpointing_changes_no_gradient() {
    for (name, model) in families() {
        let adapter = adapter(&model);
        let ids: Vec<u32> = (0..14).map(|i| i * 4 % 61).collect();
        let positions: Vec<u32> = (0..7).chain(0..7).collect();
        let full = model.parameters();
        for (what, parameters) in [("LoRA with dropout", adapter.weights()), ("all weights", &full)] {
            let results = [false, true].map(|checkpointing| {
                let leaves = parameters.tracked();
                let tracked = match what {
                    "all weights" => model.with_parameters(&leaves),
                    _ => model.with_adapter(&adapter.with_weights(leaves.clone()), 0.25).unwrap(),
                };
                let tracked = tracked.with_dropout_seed(5).with_gradient_checkpointing(checkpointing);
                let input = tracked.input([2, 7], &ids, &positions, |_, _, _| true).unwrap();
                let (value, mut gradients) = tracked
                    .backward(&input, |hidden| {
                        let scalar = hidden.sin().sum();
                        Ok::<_, ()>((scalar.clone().inner(), scalar))
                    })
                    .unwrap();
                let taken = leaves.iter().map(|(name, leaf)| {
                    let gradient = gradients.take(leaf).map(|gradient: Tensor<2>| gradient.try_into_vec_as::<f32>());
                    (name.to_owned(), gradient.map(Result::unwrap))
                });
                (value.try_into_vec_as::<f32>().unwrap(), taken.collect::<Vec<_>>())
            });
            let [(plain, kept), (again, computed)] = results;
            assert_eq!(plain, again, "{name}, {what}: the value");
            for ((leaf, kept), (_, computed)) in kept.iter().zip(&computed) {
                let (Some(kept), Some(computed)) = (kept, computed) else {
                    assert_eq!(kept.is_some(), computed.is_some(), "{name}, {what}: {leaf}");
                    continue;
                };
                let scale = kept.iter().fold(1e-3f32, |scale, value| scale.max(value.abs()));
                assert!(worst(kept, computed) <= 1e-5 * scale, "{name}, {what}: {leaf}");
            }
            assert!(kept.iter().filter(|(_, gradient)| gradient.is_some()).count() > 8, "{name}, {what}");
        }
    }
}
