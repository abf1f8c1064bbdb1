//! Gradients against finite differences of the loss, and what a batch asks its reference for.
use bpo_loss::LossType;
use bpo_model::{Adapter, DecoderConfig, LoraConfig, Parameters};
use burn::tensor::Device;

use super::*;
use crate::{Sample, TrainPrompt};

fn base() -> Decoder {
    let config = br#"{"model_type": "llama", "vocab_size": 24, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
        "max_position_embeddings": 64, "tie_word_embeddings": true}"#;
    Decoder::random(DecoderConfig::from_json("config.json".as_ref(), config).unwrap(), 3, &Device::flex()).unwrap()
}

/// Numbers that follow no pattern of the model's, one set for each `salt`.
fn waves(parameters: &Parameters, salt: f32) -> Parameters {
    parameters.map(|name, tensor| {
        let values =
            (0..tensor.dims().iter().product()).map(|i: usize| (i as f32 * 0.9 + salt * name.len() as f32).sin());
        Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), tensor.dims()), &tensor.device())
    })
}

fn policy(base: &Decoder) -> Trainable {
    let config = LoraConfig { r: 3, lora_alpha: 6.0, lora_dropout: 0.0, ..LoraConfig::default() };
    let adapter = Adapter::new(base, config, 9).unwrap();
    let filled = waves(adapter.weights(), 1.0).map(|_, tensor| tensor * 0.3);
    Trainable::Lora(adapter.with_weights(filled))
}

fn sample(seed: u32, length: u32) -> Sample {
    let tokens = (0..length).map(|i| (seed * 7 + i * i * 5 + 3) % 24).collect();
    Sample { tokens, logps: Vec::new(), eos: true, text: String::new(), origin: None }
}

type Row = (TrainPrompt, [Sample; 3]);

/// Four prompts with three completions each, of different lengths.
fn rows() -> Vec<Row> {
    let row = |id: u32| {
        let ids = vec![id + 4, 9, 2 * id];
        let prompt = TrainPrompt { id: id as usize, text: String::new(), ids, given: Vec::new() };
        (prompt, [sample(id, 2 + id % 3), sample(id + 10, 5 - id), sample(id + 20, 3)])
    };
    (0..4).map(row).collect()
}

fn pairs<'a>(rows: &'a [Row], optimistic: bool) -> Vec<Pair<'a>> {
    let pair = |(index, (prompt, samples)): (usize, &'a Row)| Pair {
        prompt,
        chosen: &samples[0],
        rejected: &samples[1],
        // A response of its own, or one of the pair.
        optimistic: optimistic.then(|| &samples[(index + 2) % 3]),
        gap: Some(0.5 + index as f64),
        at: 0,
    };
    rows.iter().enumerate().map(pair).collect()
}

/// Batches of `size` pairs against a reference that is not the policy.
fn batches<'p>(pairs: &'p [Pair<'p>], size: usize, base: &Decoder) -> Vec<Batch<'p>> {
    pairs.chunks(size).map(|pairs| Batch::new(pairs, 0, true, base, || Ok(base.clone())).unwrap()).collect()
}

fn criterion(loss: &str) -> Criterion {
    let mut objective = Objective::from(loss.parse::<LossType>().unwrap());
    objective.beta = 0.7;
    Criterion { objective, ld_alpha: None, use_weighting: false, optune_beta2: None, selm_alpha: None }
}

fn gradients(criterion: &Criterion, policy: &Trainable, base: &Decoder, batches: &[Batch<'_>]) -> Gradients {
    criterion.backward(policy, base, batches, |_| 0, |_, _, _| Ok(())).unwrap()
}

/// Σ gradient · direction.
fn along(gradients: &Gradients, direction: &Parameters) -> f64 {
    let product = |(name, direction): (&str, &Tensor<2>)| {
        gradients.get(name).map_or(0.0, |gradient| (gradient.clone() * direction.clone()).sum().into_scalar::<f32>())
    };
    direction.iter().map(|named| f64::from(product(named))).sum()
}

/// Mean loss over all pairs, scored and judged at once.
fn loss(criterion: &Criterion, policy: &Trainable, base: &Decoder, batches: &[Batch<'_>]) -> f64 {
    let model = policy.model(base).unwrap();
    let scored: Vec<Scored> = batches.iter().map(|batch| score(&model, &batch.layout, false).unwrap()).collect();
    let together: Vec<(&Batch<'_>, &Scored)> = batches.iter().zip(&scored).collect();
    let losses = criterion.losses(&together, 4, &base.device()).unwrap();
    losses.iter().map(|losses| losses.total).sum::<f64>() / 4.0
}

#[test]
fn the_gradient_of_every_criterion_is_that_of_its_loss() {
    let (base, rows) = (base(), rows());
    let policy = policy(&base);
    let mut lengths = criterion("sigmoid_norm");
    lengths.ld_alpha = Some(0.3);
    let criteria = [
        criterion("sigmoid"),
        Criterion { ld_alpha: Some(0.3), ..criterion("sigmoid") },
        lengths,
        Criterion { optune_beta2: Some(0.8), ..criterion("sigmoid") },
        Criterion { selm_alpha: Some(0.6), ..criterion("sigmoid") },
        Criterion { selm_alpha: Some(0.6), optune_beta2: Some(0.8), ld_alpha: Some(0.3), ..criterion("ipo") },
        criterion("aot"),
        criterion("kto_pair"),
        criterion("sft"),
        criterion("aqfl"),
        Criterion { selm_alpha: Some(0.6), ..criterion("expr: square(rho - mean(rho)/2)") },
    ];
    for criterion in criteria {
        let pairs = pairs(&rows, criterion.selm_alpha.is_some());
        for size in [4, 3, 1] {
            let batches = batches(&pairs, size, &base);
            let gradients = gradients(&criterion, &policy, &base, &batches);
            for salt in [0.7, 1.9] {
                let direction = waves(policy.parameters(), salt);
                let at = |step: f64| {
                    let moved = |name: &str, value: Tensor<2>| match direction.get(name) {
                        Some(direction) => value + direction.clone() * step,
                        None => value,
                    };
                    let moved = policy.with_parameters(policy.parameters().map(moved));
                    loss(&criterion, &moved, &base, &batches)
                };
                let step = 1e-3;
                let (slope, expected) = (along(&gradients, &direction), (at(step) - at(-step)) / (2.0 * step));
                let near = (slope - expected).abs() < 0.02 * gradients.norm().max(0.05);
                assert!(near, "{criterion:?}, batches of {size}: {slope} {expected}");
            }
        }
    }
}

/// WPO's weights are constants of the loss: the gradient is the pairs' own, each times its weight.
#[test]
fn a_weighted_gradient_is_the_sum_of_the_pairs_times_their_weights() {
    let (base, rows) = (base(), rows());
    let (policy, pairs) = (policy(&base), pairs(&rows, false));
    let direction = waves(policy.parameters(), 0.7);
    let plain = criterion("sigmoid");
    let weighted = Criterion { use_weighting: true, ..plain.clone() };
    let expected: f64 = batches(&pairs, 1, &base)
        .iter()
        .map(|batch| {
            let scored = score(&policy.model(&base).unwrap(), &batch.layout, true).unwrap();
            let own = gradients(&plain, &policy, &base, std::slice::from_ref(batch));
            along(&own, &direction) * f64::from(wpo_pair_weight(&scored, 0)) / 4.0
        })
        .sum();
    for size in [4, 2] {
        let slope = along(&gradients(&weighted, &policy, &base, &batches(&pairs, size, &base)), &direction);
        assert!((slope - expected).abs() < 1e-4 * expected.abs().max(0.1), "{slope} {expected}");
    }
}

/// The behaviour's log-probs came with the samples: with `reference = "behaviour"` there is no reference forward.
#[test]
fn a_reference_is_asked_only_for_what_the_samples_do_not_say() {
    let mut rows = rows();
    for sample in rows.iter_mut().flat_map(|(_, samples)| samples) {
        sample.logps = vec![-2.0; sample.tokens.len()];
    }
    let batch = |rows: &[Row], recorded: bool| {
        let (mut asked, pairs) = (false, pairs(rows, true));
        let batch = Batch::new(&pairs, 0, recorded, &base(), || {
            asked = true;
            Ok(base())
        });
        (batch.unwrap().reference, asked)
    };
    let (reference, asked) = batch(&rows, true);
    assert!(!asked && reference.iter().flatten().all(|logp| *logp == -2.0));
    let (reference, asked) = batch(&rows, false);
    assert!(asked && reference.iter().flatten().all(|logp| *logp != -2.0));
    rows[2].1[1].logps.clear();
    assert!(batch(&rows, true).1, "a completion of a file has none");
}

#[test]
fn a_response_that_is_also_in_the_pair_is_laid_out_once() {
    let (base, rows) = (base(), rows());
    let pairs = pairs(&rows, true);
    let indices: Vec<Option<usize>> = pairs.iter().map(Pair::optimistic_index).collect();
    assert_eq!(indices, [Some(2), Some(0), Some(1), Some(2)]);
    let batch = &batches(&pairs, 4, &base)[0];
    assert_eq!((batch.layout.sequences, batch.first.as_slice()), (10, &[0, 3, 5, 7][..]));
}
