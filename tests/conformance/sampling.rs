//! Sampling on the device: the same bytes again, whatever the batch, and the log-probs that scoring gives.
use std::path::Path;

use bpo_data::{Group, Tokenizer, shared_prefix};
use bpo_model::Decoder;
use bpo_sampler::{Completion, GenerateConfig, Request, Sampling, StreamKey, generate};
use bpo_train::token_logps;
use burn::tensor::Device;
use serde_json::Value;

use super::{REFERENCE, conclude, device_name, device_under_test, doubles, reference};
use crate::{
    cli::bpo::{arg, bpo, file},
    golden::Check,
};

/// A token's log-prob in another batch, by another path or on another device: rounding of products of other shapes,
/// through four layers and a head of 1,024 tokens.
const LOG_PROBS: f64 = 1e-4;
/// Share of completions that may take another turn: rounding shifts the sums of probabilities that a random number is
/// looked up in by about 1e-6, and the improbable tokens of a distribution are no wider than that.
const TURNS: f64 = 0.1;

const PROMPTS: usize = 12;
const SAMPLES: u64 = 2;
const NEW_TOKENS: usize = 32;

#[test]
fn a_seed_gives_the_same_bytes_again() {
    let (_dir, prompts) = file("prompts.jsonl", &story_prompts().join("\n"));
    let sample = || {
        let fixed = ["-q", "generate", "--model", "embedded", "--json", "--samples", "2", "--max-new-tokens", "32"];
        let run = bpo(&[&fixed[..], &["--prompts", arg(&prompts), "--device", &device_name()]].concat());
        run.succeeded();
        run.stdout
    };
    let first = sample();
    assert_eq!(first.lines().count(), PROMPTS * SAMPLES as usize);
    assert!(first == sample(), "a second run on {} gave other bytes", device_name());
    println!("ok   {}, sampling twice: {} bytes, the same", device_name(), first.len());
}

#[test]
fn samples_depend_on_nothing_but_their_seed_and_are_scored_as_they_were_sampled() {
    let (model, mut check) = (story_model(&device_under_test()), Check::default());
    let prompts = story_tokens();
    let together = sampled(&model, &prompts);
    let alone: Vec<Completion> =
        prompts.iter().enumerate().flat_map(|(index, prompt)| sampled_one(&model, index, prompt)).collect();
    compare(&mut check, "alone", &together, &alone);
    if device_name() != REFERENCE {
        compare(&mut check, REFERENCE, &together, &sampled(&story_model(&reference()), &prompts));
    }
    for (index, prompt) in prompts.iter().enumerate() {
        let completions = &together[index * SAMPLES as usize..][..SAMPLES as usize];
        let group = Group { prompt, completions: completions.iter().map(|c| c.tokens.as_slice()).collect() };
        let scored = token_logps(&model, &shared_prefix(&[group], 0).unwrap()).unwrap();
        for (completion, scored) in completions.iter().zip(scored) {
            let (sampled, scored) = (doubles(&completion.logps), doubles(&scored));
            check.close("log-probs as scored", &format!("prompt {index}"), &sampled, &scored, LOG_PROBS);
        }
    }
    conclude("sampling", &check);
}

/// Holds the log-probs against those sampled in another way, up to where a completion took another turn.
fn compare(check: &mut Check, how: &str, ours: &[Completion], others: &[Completion]) {
    check.case();
    let mut turned = 0;
    for (index, (ours, other)) in ours.iter().zip(others).enumerate() {
        let common = ours.tokens.iter().zip(&other.tokens).take_while(|(left, right)| left == right).count();
        turned += usize::from(ours.tokens != other.tokens);
        let (ours, other) = (doubles(&ours.logps[..common]), doubles(&other.logps[..common]));
        check.close(&format!("log-probs, {how}"), &format!("completion {index}"), &ours, &other, LOG_PROBS);
    }
    let share = turned as f64 / ours.len() as f64;
    check.close(&format!("share of other turns, {how}"), "all", &[share], &[0.0], TURNS);
}

/// Every prompt's samples in one batch.
fn sampled(model: &Decoder, prompts: &[Vec<u32>]) -> Vec<Completion> {
    let requests: Vec<Request<'_>> =
        prompts.iter().enumerate().map(|(index, prompt)| Request { prompt, samples: keys(index).collect() }).collect();
    generate(model, &requests, &config(), |_| {}).unwrap().concat()
}

/// Each of a prompt's samples in a batch of its own.
fn sampled_one(model: &Decoder, index: usize, prompt: &[u32]) -> Vec<Completion> {
    let one = |key| generate(model, &[Request { prompt, samples: vec![key] }], &config(), |_| {}).unwrap().concat();
    keys(index).flat_map(one).collect()
}

fn keys(prompt: usize) -> impl Iterator<Item = StreamKey> {
    (0..SAMPLES).map(move |slot| StreamKey { seed: 7, step: 0, prompt: prompt as u64, slot })
}

fn config() -> GenerateConfig {
    GenerateConfig {
        max_new_tokens: NEW_TOKENS,
        min_new_tokens: 0,
        batch_size: 16,
        sampling: Sampling::default(),
        eos_ids: vec![2],
        sampled_vocab: None,
    }
}

fn story() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/story"))
}

fn story_model(device: &Device) -> Decoder {
    Decoder::from_dir(&story().join("model"), device).unwrap()
}

/// Rows of the first prompts.
fn story_prompts() -> Vec<String> {
    let prompts = std::fs::read_to_string(story().join("prompts.jsonl")).unwrap();
    prompts.lines().take(PROMPTS).map(str::to_owned).collect()
}

fn story_tokens() -> Vec<Vec<u32>> {
    let read = |name: &str| std::fs::read(story().join(name)).unwrap();
    let tokenizer = Tokenizer::from_bytes(&read("tokenizer.json"), Some(&read("tokenizer_config.json"))).unwrap();
    let text = |row: &String| serde_json::from_str::<Value>(row).unwrap()["prompt"].as_str().unwrap().to_owned();
    story_prompts().iter().map(|row| tokenizer.encode(&text(row)).unwrap()).collect()
}
