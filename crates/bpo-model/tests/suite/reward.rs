//! Reward models as something to train: fresh heads, gradients against finite differences, written and read again.
use std::{collections::HashMap, path::Path};

use bpo_model::{Dtype, LoraConfig, Parameters, SequenceClassifier, WeightDtype, write_model};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype as Stored, serialize, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::tiny::families;

const HIDDEN: usize = 12;

/// Numbers that look like weights, by name and place.
fn weight(name: &str, index: usize) -> f32 {
    let salt: usize = name.bytes().map(usize::from).sum();
    ((salt * 31 + index * 7) as f32 * 0.37).sin() * 0.3
}

/// The body of a BERT with two layers, its names behind `prefix`.
fn bert(dir: &Path, prefix: &str) {
    let config = json!({
        "model_type": "bert", "vocab_size": 40, "hidden_size": HIDDEN, "intermediate_size": 20, "num_hidden_layers": 2,
        "num_attention_heads": 3, "max_position_embeddings": 32, "type_vocab_size": 2, "architectures": ["BertModel"],
        "initializer_range": 0.3,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: &str, shape: &[usize]| shapes.push((format!("{prefix}{name}"), shape.to_vec()));
    for (table, rows) in [("word", 40), ("position", 32), ("token_type", 2)] {
        add(&format!("embeddings.{table}_embeddings.weight"), &[rows, HIDDEN]);
    }
    let mut norm = |name: &str| {
        add(&format!("{name}.weight"), &[HIDDEN]);
        add(&format!("{name}.bias"), &[HIDDEN]);
    };
    norm("embeddings.LayerNorm");
    for layer in 0..2 {
        norm(&format!("encoder.layer.{layer}.attention.output.LayerNorm"));
        norm(&format!("encoder.layer.{layer}.output.LayerNorm"));
    }
    for layer in 0..2 {
        let square = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"];
        let square = square.map(|name| (name, [HIDDEN, HIDDEN]));
        let mlp = [("intermediate.dense", [20, HIDDEN]), ("output.dense", [HIDDEN, 20])];
        for (name, shape) in square.into_iter().chain(mlp) {
            add(&format!("encoder.layer.{layer}.{name}.weight"), &shape);
            add(&format!("encoder.layer.{layer}.{name}.bias"), &shape[..1]);
        }
    }
    let bytes: HashMap<&str, Vec<u8>> = shapes
        .iter()
        .map(|(name, shape)| {
            let one = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
            let values = (0..shape.iter().product()).flat_map(|index| (one + weight(name, index)).to_le_bytes());
            (name.as_str(), values.collect())
        })
        .collect();
    let views = shapes
        .iter()
        .map(|(name, shape)| (name, TensorView::new(Stored::F32, shape.clone(), &bytes[name.as_str()]).unwrap()));
    std::fs::write(dir.join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
}

fn read(dir: &Path, seed: u64) -> (SequenceClassifier, Vec<String>) {
    SequenceClassifier::to_be_trained(dir, &Device::flex(), Dtype::Auto, seed).unwrap()
}

/// One of every encoder that is at hand, and decoders.
fn classifiers() -> Vec<(String, SequenceClassifier)> {
    let mut all = Vec::new();
    let dir = tempdir().unwrap();
    bert(dir.path(), "");
    all.push(("bert".to_string(), read(dir.path(), 1).0));
    for (name, decoder) in families() {
        if ["llama", "gemma2", "gpt2"].contains(&name) {
            let dir = tempdir().unwrap();
            for (file, bytes) in write_model(&decoder, WeightDtype::F32).unwrap() {
                std::fs::write(dir.path().join(file), bytes).unwrap();
            }
            all.push((name.to_string(), read(dir.path(), 1).0));
        }
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/arch");
    for name in ["roberta-reward", "distilbert-reward", "deberta-v3-reward"] {
        match fixtures.join(name) {
            path if path.is_dir() => all.push((name.to_string(), read(&path, 1).0)),
            path => println!("skipped: {name}: no {}", path.display()),
        }
    }
    all
}

const ROWS: [&[u32]; 3] = [&[5, 9, 3, 17, 8], &[4, 30, 12], &[6, 2, 21, 9, 14, 7, 11]];

fn rows() -> Vec<(&'static [u32], &'static [u32])> {
    ROWS.map(|ids| (ids, [].as_slice())).to_vec()
}

/// A sum of the scores in which none cancels another.
fn objective(scores: &[f32]) -> f64 {
    scores.iter().enumerate().map(|(row, score)| (1.0 + row as f64) * f64::from(*score)).sum()
}

fn direction(name: &str, like: &Tensor<2>) -> Tensor<2> {
    let count: usize = like.dims().iter().product();
    let values: Vec<f32> = (0..count).map(|index| weight(name, index + 3) * 3.0).collect();
    Tensor::from_data(TensorData::new(values, like.dims()), &like.device())
}

fn dot(a: &Tensor<2>, b: &Tensor<2>) -> f64 {
    f64::from((a.clone() * b.clone()).sum().into_scalar::<f32>())
}

/// Gradients of [`objective`] in every parameter.
fn gradients(
    model: &SequenceClassifier,
    build: impl Fn(&Parameters) -> SequenceClassifier,
    of: &Parameters,
) -> Parameters {
    let leaves = of.tracked();
    let factors = Tensor::<2>::from_floats([[1.0], [2.0], [3.0]], &model.device());
    let (_, mut grads) =
        build(&leaves).backward(&rows(), |scores| Ok::<_, bpo_model::Error>(((), (scores * factors).sum()))).unwrap();
    let mut gradients = Parameters::new();
    for (name, leaf) in leaves.iter() {
        if let Some(gradient) = grads.take(leaf) {
            gradients.insert(name.to_string(), gradient);
        }
    }
    gradients
}

/// Compares with central differences along one direction in each parameter.
fn are_slopes(
    name: &str,
    parameters: &Parameters,
    gradients: &Parameters,
    build: impl Fn(&Parameters) -> SequenceClassifier,
) {
    for (parameter, tensor) in parameters.iter() {
        let along = direction(parameter, tensor);
        let moved = |by: f32| {
            let mut changed = parameters.clone();
            changed.insert(parameter.to_string(), tensor.clone() + along.clone() * by);
            objective(&build(&changed).typed_scores(&rows()).unwrap())
        };
        let gradient = gradients.get(parameter).map_or(0.0, |gradient| dot(gradient, &along));
        // Where an activation has a kink nearby, only short steps stay on one side of it; long ones are less rounded.
        let slopes = [2e-3f32, 3e-4, 3e-5].map(|step| (moved(step) - moved(-step)) / f64::from(2.0 * step));
        let is_close = |slope: &f64| (slope - gradient).abs() < 2e-2 + 2e-2 * slope.abs();
        assert!(slopes.iter().any(is_close), "{name}, {parameter}: {slopes:?}, {gradient}");
    }
}

#[test]
fn gradients_of_all_weights_are_the_slopes_of_the_scores() {
    for (name, model) in classifiers() {
        let parameters = model.parameters();
        let gradients = gradients(&model, |changed| model.with_parameters(changed), &parameters);
        assert!(gradients.len() + 2 >= parameters.len(), "{name}: {} of {}", gradients.len(), parameters.len());
        are_slopes(&name, &parameters, &gradients, |changed| model.with_parameters(changed));
    }
}

/// An adapter whose `B` is not zero, with the head.
fn adapted(model: &SequenceClassifier) -> (bpo_model::Adapter, Parameters) {
    let config = LoraConfig { r: 2, lora_alpha: 4.0, lora_dropout: 0.3, ..LoraConfig::default() };
    let adapter = model.new_adapter(config, 4).unwrap();
    let mut parameters = adapter.weights().map(|name, tensor| direction(name, &tensor) * 0.25);
    model.head_parameters().iter().for_each(|(name, tensor)| parameters.insert(name.to_string(), tensor.clone()));
    (adapter, parameters)
}

fn with(
    model: &SequenceClassifier,
    adapter: &bpo_model::Adapter,
    all: &Parameters,
    dropout: f64,
) -> SequenceClassifier {
    let own = adapter.weights().map(|name, _| all.get(name).unwrap().clone());
    model.with_parameters(all).with_adapter(&adapter.with_weights(own), dropout).unwrap()
}

#[test]
fn gradients_of_branches_and_head_are_the_slopes_of_the_scores() {
    for (name, model) in classifiers() {
        let (adapter, parameters) = adapted(&model);
        let build = |changed: &Parameters| with(&model, &adapter, changed, 0.0);
        let gradients = gradients(&model, build, &parameters);
        assert_eq!(gradients.len(), parameters.len(), "{name}");
        are_slopes(&name, &parameters, &gradients, build);
    }
}

#[test]
fn dropout_masks_are_functions_of_the_seed() {
    for (name, model) in classifiers() {
        let (adapter, parameters) = adapted(&model);
        let scores = |seed: u64| with(&model, &adapter, &parameters, 0.3).with_dropout_seed(seed).typed_scores(&rows());
        assert_eq!(scores(7).unwrap(), scores(7).unwrap(), "{name}");
        assert_ne!(scores(7).unwrap(), scores(8).unwrap(), "{name}");
    }
}

#[test]
fn a_row_has_the_same_score_alone_and_beside_others() {
    for (name, model) in classifiers() {
        let together = model.scores(&ROWS).unwrap();
        for (row, score) in ROWS.iter().zip(together) {
            let alone = model.scores(&[row]).unwrap()[0];
            assert!((alone - score).abs() < 1e-5, "{name}: {alone}, {score}");
        }
    }
}

#[test]
fn a_written_model_reads_back_with_the_same_scores_its_adapter_folded_in() {
    for (name, model) in classifiers() {
        let (adapter, parameters) = adapted(&model);
        let trained = with(&model, &adapter, &parameters, 0.0);
        let dir = tempdir().unwrap();
        for (file, bytes) in trained.to_files(WeightDtype::F32).unwrap() {
            std::fs::write(dir.path().join(file), bytes).unwrap();
        }
        let config: Value = serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap()).unwrap();
        let class = config["architectures"][0].as_str().unwrap();
        assert!(class.ends_with("ForSequenceClassification"), "{name}: {class}");
        assert_eq!(config["id2label"].as_object().unwrap().len(), 1);
        let again = SequenceClassifier::from_dir(dir.path(), &Device::flex()).unwrap();
        for (ours, theirs) in trained.scores(&ROWS).unwrap().iter().zip(again.scores(&ROWS).unwrap()) {
            assert!((ours - theirs).abs() < 1e-5, "{name}: {ours}, {theirs}");
        }
        let [(_, peft), _] = model.adapter_files(&adapter, &parameters, "base").unwrap();
        let peft: Value = serde_json::from_slice(&peft).unwrap();
        assert_eq!(peft["task_type"], "SEQ_CLS");
        assert!(!peft["modules_to_save"].as_array().unwrap().is_empty());
    }
}

fn body(prefix: &str) -> TempDir {
    let dir = tempdir().unwrap();
    bert(dir.path(), prefix);
    dir
}

#[test]
fn a_body_without_a_head_gets_one_by_the_seed_and_keeps_its_own_weights() {
    let (bare, prefixed) = (body(""), body("bert."));
    let (first, made) = read(bare.path(), 1);
    assert_eq!(made, ["bert.pooler.dense.weight", "classifier.weight"]);
    let host = |model: &SequenceClassifier, of: &str| -> Vec<f32> {
        model.parameters().get(of).unwrap().clone().try_into_vec_as().unwrap()
    };
    let (again, other) = (read(bare.path(), 1).0, read(bare.path(), 2).0);
    for (name, _) in first.parameters().iter() {
        assert_eq!(host(&first, name), host(&again, name), "{name}");
        let is_new = made.iter().any(|made| made == name);
        assert_eq!(host(&first, name) != host(&other, name), is_new, "{name}");
    }
    let words = "embeddings.word_embeddings.weight";
    for (model, prefix) in [(&first, ""), (&read(prefixed.path(), 1).0, "bert.")] {
        assert_eq!(host(model, &format!("bert.{words}"))[7], weight(&format!("{prefix}{words}"), 7));
    }
    let refused = SequenceClassifier::from_dir(bare.path(), &Device::flex()).unwrap_err().to_string();
    assert!(refused.contains("not a reward model"), "{refused}");
}

#[test]
fn an_encoder_in_sixteen_bits_is_refused_by_its_key() {
    let dir = body("");
    let refused = SequenceClassifier::to_be_trained(dir.path(), &Device::flex(), Dtype::Bfloat16, 1).unwrap_err();
    assert!(refused.to_string().contains("bfloat16"), "{refused}");
}
