//! The whole loop as calls: a tiny random model learns to say one word, by BPO.
//!
//!     cargo run --release -p bpo-train --example loop_as_a_library
//!
//! The model, the tokenizer, the judge and the observer are made here; in a program of yours each may be another.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "an example tells what it does")]

use std::error::Error;

use bpo_annotate::{Item, Scored, scorer_from};
use bpo_data::{Prompt, PromptRow, Tokenizer};
use bpo_model::{Decoder, DecoderConfig};
use bpo_store::RunDir;
use bpo_train::{CollectionPhases, Inputs, Observer, Outcome, Recipe, Reference, Stage, TrainRows, run};
use burn::tensor::Device;
use serde_json::{Map, Value, json};

const WORDS: [&str; 8] = ["<eos>", "sun", "rain", "snow", "wind", "fog", "ice", "storm"];

/// Prints a line every ten steps.
struct Teller;

impl Observer for Teller {
    fn begin(&mut self, _: Stage, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn end(&mut self) {}
    fn note(&mut self, line: &str) {
        println!("{line}");
    }
    fn step(&mut self, step: u64, total: u64, metrics: &Map<String, Value>) {
        if step.is_multiple_of(10) {
            let metric = |key: &str| metrics.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
            let (loss, score) = (metric("loss"), metric("objective/scores"));
            println!("step {step} of {total}: loss {loss:.4}, suns per response {score:.2}");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let recipe = Recipe {
        collection_phases: CollectionPhases::Count(4),
        reference: Reference::Behaviour, // this makes it BPO
        max_steps: 40,
        per_device_train_batch_size: 8,
        max_new_tokens: 4,
        learning_rate: 2e-2,
        lora_dropout: 0.0,
        eval_size: 0,
        ..Recipe::default()
    };
    let folder = std::env::temp_dir().join(format!("loop-as-a-library-{}", std::process::id()));
    let dir = RunDir::open(&folder)?; // the same call goes on where a run was killed
    let outcome = run(&recipe, inputs()?, &dir, &mut Teller)?;
    let adapter = dir.path().join("adapter/adapter_model.safetensors");
    let Outcome::Finished(report) = outcome else { return Err("interrupted".into()) };
    println!("{} steps, {} pairs; {} is there: {}", report.steps, report.pairs, adapter.display(), adapter.exists());
    assert!(adapter.exists() && report.steps == 40);
    drop(dir);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn inputs() -> Result<Inputs, Box<dyn Error>> {
    let config = json!({"model_type": "llama", "vocab_size": WORDS.len(), "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32, "initializer_range": 0.3});
    let config = DecoderConfig::from_json("config.json".as_ref(), config.to_string().as_bytes())?;
    let judge = |items: &[Item]| -> Result<Vec<f64>, String> {
        Ok(items.iter().map(|item| item.response.matches("sun").count() as f64).collect())
    };
    let row = |id| PromptRow { id, line: id + 1, prompt: Prompt::Text(WORDS[1 + id % 7].into()), reference: None };
    Ok(Inputs {
        base: Decoder::random(config, 3, &Device::flex())?,
        base_name: "a-random-model".into(),
        adapters: Vec::new(),
        tokenizer: tokenizer()?,
        rows: TrainRows::Prompts((0..56).map(row).collect()),
        references: None,
        annotator: Box::new(Scored(scorer_from("suns", judge))),
        companions: Vec::new(),
        sampler: None,
    })
}

fn tokenizer() -> Result<Tokenizer, bpo_data::Error> {
    let vocab: Map<String, Value> = WORDS.iter().zip(0..).map(|(word, id)| ((*word).to_owned(), json!(id))).collect();
    let eos = json!({"id": 0, "content": "<eos>", "special": true, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false});
    let file = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [eos], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<eos>"}});
    Tokenizer::from_bytes(file.to_string().as_bytes(), Some(br#"{"eos_token": "<eos>", "pad_token": "<eos>"}"#))
}
