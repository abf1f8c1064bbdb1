//! A tiny random model, a tokenizer of twenty words, and what a run needs around them.
use bpo_annotate::{Annotator, Comparison, Error as AnnotatorError, Item, Judgement, Scored, Verdict, scorer_from};
use bpo_data::{FromRow, PreferenceRow, Prompt, PromptRow, Rows, Tokenizer};
use bpo_model::{Adapter, Decoder, DecoderConfig, LoraConfig};
use bpo_train::{Inputs, Recipe, TrainRows, Trainable};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::json;

pub const VOCAB: usize = 24;

pub fn model(changes: serde_json::Value) -> Decoder {
    let mut raw = json!({
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "initializer_range": 0.3, "max_position_embeddings": 64, "tie_word_embeddings": true,
    });
    for (key, value) in changes.as_object().unwrap() {
        raw[key] = value.clone();
    }
    let config = DecoderConfig::from_json("config.json".as_ref(), raw.to_string().as_bytes()).unwrap();
    Decoder::random(config, 3, &Device::flex()).unwrap()
}

/// An adapter whose `B` is not zero.
pub fn adapter(model: &Decoder, targets: &[&str]) -> Adapter {
    let config = LoraConfig {
        r: 3,
        lora_alpha: 6.0,
        lora_dropout: 0.0,
        target_modules: targets.iter().map(|t| (*t).to_string()).collect(),
        ..LoraConfig::default()
    };
    let adapter = Adapter::new(model, config, 9).unwrap();
    let filled = adapter.weights().map(|name, tensor| {
        let salt = name.len() as f32;
        let count: usize = tensor.dims().iter().product();
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.9 + salt).sin() * 0.3).collect();
        Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
    });
    adapter.with_weights(filled)
}

pub fn trainables(model: &Decoder) -> Vec<(&'static str, Trainable)> {
    vec![("lora", Trainable::Lora(adapter(model, &["all-linear"]))), ("full", Trainable::Full(model.parameters()))]
}

/// Words `w0` … `w19` at ids 4 …; pad 0, bos 1, eos 2, unk 3.
pub fn tokenizer() -> Tokenizer {
    tokenizer_with(&json!({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}))
}

/// [`tokenizer`] with a chat template.
pub fn chat_tokenizer() -> Tokenizer {
    let template = "{% for message in messages %}w1 {{ message.content }} w2{% endfor %}";
    tokenizer_with(&json!({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
                           "chat_template": template}))
}

fn tokenizer_with(config: &serde_json::Value) -> Tokenizer {
    let mut vocab = json!({"<pad>": 0, "<bos>": 1, "<eos>": 2, "<unk>": 3});
    for word in 0..VOCAB - 4 {
        vocab[format!("w{word}")] = json!(word + 4);
    }
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<pad>"), special(1, "<bos>"), special(2, "<eos>"), special(3, "<unk>")],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": null, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    });
    Tokenizer::from_bytes(tokenizer.to_string().as_bytes(), Some(config.to_string().as_bytes())).unwrap()
}

/// How often a text says `w0`.
pub fn liking(text: &str) -> f64 {
    text.split_whitespace().filter(|word| *word == "w0").count() as f64
}

/// Likes every `w0`.
pub fn annotator() -> Box<dyn Annotator + Send> {
    scoring(liking)
}

/// Scores responses by `score`.
pub fn scoring(score: impl Fn(&str) -> f64 + Send + 'static) -> Box<dyn Annotator + Send> {
    let score = move |items: &[Item]| -> Result<Vec<f64>, String> {
        Ok(items.iter().map(|item| score(&item.response)).collect())
    };
    Box::new(Scored(scorer_from("scores", score)))
}

/// Likes what [`liking`] does, and has no scores.
pub struct Comparing;

impl Annotator for Comparing {
    fn name(&self) -> String {
        "compares".into()
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, AnnotatorError> {
        let verdict = |asked: &Comparison| Verdict::of_scores(liking(&asked.first), liking(&asked.second));
        Ok(batch.iter().map(|asked| Judgement::of(verdict(asked))).collect())
    }
}

fn prompt(id: usize) -> Prompt {
    Prompt::Text(format!("w{} w{} w{}", id % 19, (id * 7) % 20, id / 3))
}

/// Preference pairs in which `w0` is chosen, of different lengths.
pub fn pairs() -> TrainRows {
    let words = |id: usize, count: usize| (0..count).map(|k| format!(" w{}", 1 + (id * (k + 3) + k) % 9)).collect();
    let row = |id: usize| PreferenceRow {
        line: id + 1,
        prompt: prompt(id),
        chosen: format!("w0{}", words(id, id % 3)) as String,
        rejected: words(id + 5, 1 + id % 5),
        margin: None,
    };
    TrainRows::Pairs((0..40).map(row).collect())
}

/// What a run on [`pairs`] needs.
pub fn inputs_of_pairs() -> Inputs {
    Inputs { rows: pairs(), ..inputs() }
}

/// Changes rows as they lie in memory.
pub fn edit<T: FromRow + Clone>(rows: &mut Rows<T>, change: impl FnOnce(&mut Vec<T>)) {
    let mut all = Vec::new();
    rows.each(|row| {
        all.push(row);
        Ok::<_, bpo_data::Error>(())
    })
    .unwrap();
    change(&mut all);
    *rows = all.into();
}

/// [`inputs`] cut to `count` prompts.
pub fn few(count: usize) -> Inputs {
    let mut inputs = inputs();
    if let TrainRows::Prompts(prompts) = &mut inputs.rows {
        edit(prompts, |prompts| prompts.truncate(count));
    }
    inputs
}

/// [`inputs`] with a reference text for every prompt.
pub fn inputs_with_references() -> Inputs {
    let mut inputs = inputs();
    if let TrainRows::Prompts(prompts) = &mut inputs.rows {
        edit(prompts, |prompts| {
            prompts.iter_mut().for_each(|row| row.reference = Some(format!("w{} w0", row.id % 19)));
        });
    }
    inputs
}

pub fn inputs() -> Inputs {
    let prompts = (0..40).map(|id| PromptRow { id, line: id + 1, prompt: prompt(id), reference: None }).collect();
    Inputs {
        base: model(json!({})),
        base_name: "tiny".into(),
        adapters: Vec::new(),
        tokenizer: tokenizer(),
        rows: TrainRows::Prompts(prompts),
        references: None,
        annotator: annotator(),
        companions: Vec::new(),
        sampler: None,
    }
}

pub fn recipe() -> Recipe {
    Recipe {
        max_steps: 12,
        per_device_train_batch_size: 4,
        gradient_accumulation_steps: 2,
        max_new_tokens: 8,
        lora_r: 4,
        lora_dropout: 0.0,
        learning_rate: 0.02,
        collection_phases: bpo_train::CollectionPhases::Count(3),
        save_steps: 5,
        eval_size: 6,
        ..Recipe::default()
    }
}
