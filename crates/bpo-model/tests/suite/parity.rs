use std::path::{Path, PathBuf};

use bpo_model::{Adapter, Decoder, PairClassifier, SequenceClassifier};
use burn::tensor::{Device, Tensor};
use serde_json::Value;

use crate::tiny::logps;

/// A folder of the fixtures, which `BPO_FIXTURES` may name.
fn fixtures(name: &str) -> Option<PathBuf> {
    let shared = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let path = std::env::var_os("BPO_FIXTURES").map_or_else(shared, PathBuf::from).join(name);
    if !path.is_dir() {
        println!("skipped: parity {name}: no {}", path.display());
        return None;
    }
    Some(path)
}

fn expected(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("expected.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn causal_models_give_transformers_log_probs() {
    let llamas = ["llama-tied", "llama3-rope", "mistral", "mistral-sliding", "qwen2", "qwen3"];
    for name in llamas.into_iter().chain(["gemma", "gemma2", "gemma3", "phi3", "gpt2", "gpt-neox"]) {
        let Some(dir) = fixtures(&format!("arch/{name}")) else { continue };
        let model = Decoder::from_dir(&dir, &Device::flex()).unwrap();
        let expected = expected(&dir);
        let prompts = ids(&expected["prompt_lengths"]);
        let sums = numbers(&expected["response_logps"]);
        for (row, sum) in sums.iter().enumerate() {
            let ids = ids(&expected["input_ids"][row]);
            let (prompt, response) = ids.split_at(prompts[row] as usize);
            let ours: f64 = logps(&model, prompt, response).iter().map(|&l| f64::from(l)).sum();
            assert!((ours - sum).abs() < 2e-4, "{name} row {row}: {ours} instead of {sum}");
        }
    }
}

#[test]
fn adapters_give_pefts_logits() {
    for name in ["llama-tied", "qwen3", "gemma", "gpt2"] {
        let (Some(base), Some(dir)) = (fixtures(&format!("arch/{name}")), fixtures(&format!("peft/{name}-lora")))
        else {
            continue;
        };
        let device = Device::flex();
        let adapter = Adapter::from_dir(&dir, &device).unwrap();
        let model = Decoder::from_dir(&base, &device).unwrap().with_adapter(&adapter, 0.0).unwrap();
        let expected = expected(&dir);
        let ids = ids(&expected["input_ids"][0]);
        let theirs: Vec<f64> = expected["logits"].as_array().unwrap().iter().flat_map(numbers).collect();
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        for model in [&model, &model.merged()] {
            let input = model.input([1, ids.len()], &ids, &positions, |_, _, _| true).unwrap();
            let ours: Tensor<2> = model.logits(model.hidden(&input));
            let ours: Vec<f32> = ours.try_into_vec_as().unwrap();
            assert_eq!(ours.len(), theirs.len());
            let worst =
                ours.iter().zip(&theirs).map(|(a, b)| (f64::from(*a) - b).abs()).max_by(f64::total_cmp).unwrap_or(0.0);
            assert!(worst < 2e-4, "{name}: {worst}");
        }
    }
}

#[test]
fn reward_models_give_transformers_scores() {
    let decoders = ["llama-reward", "gemma-reward", "gemma3-reward", "gpt2-reward", "gpt-neox-reward"];
    for name in decoders.into_iter().chain(["bert-reward", "roberta-reward", "distilbert-reward", "deberta-v3-reward"])
    {
        let Some(dir) = fixtures(&format!("arch/{name}")) else { continue };
        let model = SequenceClassifier::from_dir(&dir, &Device::flex()).unwrap();
        let expected = expected(&dir);
        let rows: Vec<Vec<u32>> = expected["input_ids"].as_array().unwrap().iter().map(ids).collect();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let scores = expected["scores"].as_array().unwrap();
        for (ours, theirs) in model.scores(&rows).unwrap().iter().zip(scores) {
            let theirs = theirs.as_f64().or_else(|| theirs[0].as_f64()).unwrap();
            assert!((f64::from(*ours) - theirs).abs() < 2e-4, "{name}: {ours} instead of {theirs}");
        }
        let Some(types) = expected["token_type_ids"].as_array() else { continue };
        let types: Vec<Vec<u32>> = types.iter().map(ids).collect();
        let typed: Vec<(&[u32], &[u32])> = rows.iter().copied().zip(types.iter().map(Vec::as_slice)).collect();
        for (ours, theirs) in model.typed_scores(&typed).unwrap().iter().zip(numbers(&expected["typed_scores"])) {
            assert!((f64::from(*ours) - theirs).abs() < 2e-4, "{name}, typed: {ours} instead of {theirs}");
        }
    }
}

#[test]
fn rows_that_an_encoder_cannot_read_are_refused() {
    for (name, longest) in
        [("bert-reward", 512), ("roberta-reward", 128), ("distilbert-reward", 512), ("deberta-v3-reward", 4096)]
    {
        let Some(dir) = fixtures(&format!("arch/{name}")) else { continue };
        let model = SequenceClassifier::from_dir(&dir, &Device::flex()).unwrap();
        let refused = |ids: &[u32], types: &[u32]| model.typed_scores(&[(ids, types)]).unwrap_err().to_string();
        assert_eq!(model.longest(), Some(longest), "{name}");
        assert!(model.scores(&[&vec![5; 128]]).unwrap()[0].is_finite(), "{name}");
        assert!(refused(&vec![5; longest + 1], &[]).contains(&longest.to_string()), "{name}");
        assert!(refused(&[5, 999_999], &[]).contains("999999"), "{name}");
        assert!(refused(&[], &[]).contains("no tokens"), "{name}");
        assert!(refused(&[5], &[0, 0]).contains("types"), "{name}");
        assert_eq!(model.typed_scores(&[(&[5], &[2])]).is_err(), name == "bert-reward", "{name}");
    }
}

/// Rows are scored alike whatever stands beside them.
#[test]
fn a_score_does_not_depend_on_the_batch() {
    for name in ["llama-reward", "bert-reward", "roberta-reward", "distilbert-reward", "deberta-v3-reward"] {
        let Some(dir) = fixtures(&format!("arch/{name}")) else { continue };
        let model = SequenceClassifier::from_dir(&dir, &Device::flex()).unwrap();
        let rows: Vec<Vec<u32>> = (1..5).map(|n| (0..n * 11).map(|i| 3 + (i * n * 7) % 200).collect()).collect();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        for (row, together) in rows.iter().zip(model.scores(&rows).unwrap()) {
            let alone = model.scores(&[row]).unwrap()[0];
            assert!((alone - together).abs() < 1e-5, "{name}: {alone} {together}");
        }
    }
}

#[test]
fn pair_rankers_give_transformers_numbers() {
    for name in ["pair-rm", "pair-bert-1", "pair-bert-2"] {
        let Some(dir) = fixtures(&format!("arch/{name}")) else { continue };
        let model = PairClassifier::from_dir(&dir, &Device::flex()).unwrap();
        assert_eq!(model.marks().is_some(), name == "pair-rm");
        let expected = expected(&dir);
        let lists = |key: &str| -> Option<Vec<Vec<u32>>> { Some(expected[key].as_array()?.iter().map(ids).collect()) };
        let rows = lists("input_ids").unwrap();
        let types = lists("token_type_ids").unwrap_or_else(|| vec![Vec::new(); rows.len()]);
        let typed: Vec<(&[u32], &[u32])> = rows.iter().zip(&types).map(|(row, types)| (&row[..], &types[..])).collect();
        for (ours, theirs) in model.logits(&typed).unwrap().iter().zip(numbers(&expected["logits"])) {
            assert!((f64::from(*ours) - theirs).abs() < 2e-4, "{name}: {ours} instead of {theirs}");
        }
    }
}
