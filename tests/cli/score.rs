use serde_json::{Value, json};

use super::bpo::{arg, bpo, bpo_reading, file, fixture, json as read};

/// Rows of a fixture's `input_ids` cut at its `prompt_lengths`, and the log-probs transformers gave.
fn cases(expected: &Value) -> (String, Vec<f64>) {
    let ids = expected["input_ids"].as_array().unwrap();
    let cuts = expected["prompt_lengths"].as_array().unwrap();
    let row = |(ids, cut): (&Value, &Value)| {
        let (prompt, response) = ids.as_array().unwrap().split_at(cut.as_u64().unwrap() as usize);
        format!("{}\n", json!({"prompt_ids": prompt, "response_ids": response}))
    };
    let logps = expected["response_logps"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    (ids.iter().zip(cuts).map(row).collect(), logps)
}

#[test]
fn log_probs_are_those_of_transformers_in_the_order_of_the_rows() {
    let llamas = ["llama-tied", "llama3-rope", "mistral-sliding", "qwen2", "qwen3"];
    for name in llamas.into_iter().chain(["gemma", "gemma2", "gemma3", "phi3", "gpt2", "gpt-neox"]) {
        let Some(model) = fixture(&format!("arch/{name}")) else { continue };
        let (rows, logps) = cases(&read(&model.join("expected.json")));
        for budget in ["1", "4096"] {
            let run = bpo_reading(&rows, &["score", "--model", arg(&model), "--input", "-", "--batch-tokens", budget]);
            let scored = run.rows();
            assert_eq!(scored.len(), logps.len());
            for (row, expected) in scored.iter().zip(&logps) {
                assert!((row["logp"].as_f64().unwrap() - expected).abs() < 2e-4, "{name}: {row} for {expected}");
            }
        }
    }
}

#[test]
fn a_row_longer_than_the_context_is_scored_and_told_of_once() {
    let Some(model) = fixture("arch/llama-tied") else { return };
    let context = read(&model.join("config.json"))["max_position_embeddings"].as_u64().unwrap() as usize;
    let long = json!({"prompt_ids": vec![1; context], "response_ids": [2]});
    let rows = format!("{}\n{long}\n{long}\n", json!({"prompt_ids": [1], "response_ids": [2]}));
    let run = bpo_reading(&rows, &["score", "--model", arg(&model), "--input", "-"]);
    assert_eq!(run.rows().len(), 3);
    assert_eq!(run.stderr.matches("positions").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains(":2: "), "{}", run.stderr);
}

#[test]
fn token_log_probs_add_up() {
    let Some(model) = fixture("arch/llama-tied") else { return };
    let rows = "{\"prompt_ids\":[1,2],\"response_ids\":[3,4,5]}\n{\"prompt_ids\":[7],\"response_ids\":[]}\n";
    let rows = bpo_reading(rows, &["score", "--model", arg(&model), "--input", "-", "--per-token"]).rows();
    let tokens = rows[0]["token_logps"].as_array().unwrap();
    let sum: f64 = tokens.iter().map(|v| v.as_f64().unwrap()).sum();
    assert_eq!((tokens.len(), rows[0]["length"].as_u64()), (3, Some(3)));
    assert!((sum - rows[0]["logp"].as_f64().unwrap()).abs() < 1e-6);
    assert!(!rows[1].to_string().contains("-0"), "{}", rows[1]);
    assert_eq!(rows[1], json!({"logp": 0.0, "length": 0, "token_logps": []}));
}

#[test]
fn text_ends_with_eos_unless_told_otherwise() {
    let Some(model) = fixture("stories260K") else { return };
    let row = "{\"prompt\":\"Once upon a time\",\"response\":\" there was a cat.\"}";
    let length = |flags: &[&str]| {
        let args = [&["score", "--model", arg(&model), "--input", "-"], flags].concat();
        bpo_reading(row, &args).rows()[0]["length"].as_u64().unwrap()
    };
    assert_eq!(length(&[]), length(&["--no-eos"]) + 1);
}

#[test]
fn scores_are_those_of_transformers() {
    for name in
        ["llama-reward", "gemma-reward", "bert-reward", "roberta-reward", "distilbert-reward", "deberta-v3-reward"]
    {
        let Some(model) = fixture(&format!("arch/{name}")) else { continue };
        let expected = read(&model.join("expected.json"));
        let ids = expected["input_ids"].as_array().unwrap().iter();
        let rows: String = ids.map(|ids| format!("{}\n", json!({"input_ids": ids}))).collect();
        let run = bpo_reading(&rows, &["score", "--reward-model", arg(&model), "--input", "-"]);
        for (row, score) in run.rows().iter().zip(expected["scores"].as_array().unwrap()) {
            assert!((row["score"].as_f64().unwrap() - score.as_f64().unwrap()).abs() < 2e-4, "{name}: {row}");
        }
    }
}

/// A BERT with words for a tokenizer.
fn encoder_with_tokenizer() -> Option<tempfile::TempDir> {
    let model = fixture("arch/bert-reward")?;
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(model.join(name), dir.path().join(name)).unwrap();
    }
    let words = ["[UNK]", "[CLS]", "[SEP]", "how", "are", "you", "fine", "thanks"];
    let vocab: serde_json::Map<String, Value> =
        words.into_iter().zip(0..).map(|(w, id)| (w.into(), json!(id))).collect();
    let special = |id: usize| {
        json!({"id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(1), special(2)], "normalizer": null, "decoder": null,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}});
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    Some(dir)
}

#[test]
fn an_encoder_reads_prompt_and_response_as_its_tokenizers_pair() {
    let Some(dir) = encoder_with_tokenizer() else { return };
    let score = |rows: &str| bpo_reading(rows, &["score", "--reward-model", arg(dir.path()), "--input", "-"]);
    let text = score("{\"prompt\":\"how are you\",\"response\":\"fine thanks\"}").rows();
    let ids = json!({"input_ids": [1, 3, 4, 5, 2, 6, 7, 2], "token_type_ids": [0, 0, 0, 0, 0, 1, 1, 1]});
    assert_eq!(text, score(&ids.to_string()).rows());
    let untyped = json!({"input_ids": [1, 3, 4, 5, 2, 6, 7, 2]});
    assert_ne!(text, score(&untyped.to_string()).rows());
    let long = json!({"prompt": "how ".repeat(600), "response": "fine"});
    score(&long.to_string()).refused(3, &[":1: ", "604", "512"]);
    let annotated = |prompt: &str| {
        let row = json!({"prompt": prompt, "completions": ["fine thanks"]}).to_string();
        bpo_reading(&row, &["annotate", "--annotator", arg(dir.path()), "--scores"]).rows()[0]["score"].clone()
    };
    assert_eq!(annotated("how are you"), text[0]["score"]);
    // The beginning of a long prompt is what an annotator does without.
    assert_eq!(annotated(&"how ".repeat(600)), annotated(&"how ".repeat(700)));
    score("{\"input_ids\":[1,2],\"token_type_ids\":[0]}").refused(3, &["token_type_ids"]);
    score("{\"input_ids\":[1],\"token_type_ids\":[2]}").refused(3, &["token_type_ids"]);
}

#[test]
fn the_wrong_kind_of_model_is_refused_by_name() {
    let (Some(causal), Some(reward)) = (fixture("arch/gemma"), fixture("arch/gemma-reward")) else { return };
    let (_dir, rows) = file("rows.jsonl", "{\"input_ids\":[1],\"prompt_ids\":[1],\"response_ids\":[2]}");
    bpo(&["score", "--model", arg(&reward), "--input", arg(&rows)]).refused(3, &["is a reward model"]);
    bpo(&["score", "--reward-model", arg(&causal), "--input", arg(&rows)]).refused(3, &["score.weight", "--model"]);
}

#[test]
fn a_bad_row_is_named_by_file_and_line() {
    let Some(model) = fixture("arch/llama-tied") else { return };
    let good = "{\"prompt_ids\":[1],\"response_ids\":[2]}";
    for (bad, word) in [
        ("{\"prompt_ids\":[],\"response_ids\":[2]}", "no tokens"),
        ("{\"prompt_ids\":[1],\"response_ids\":[9999999]}", "9999999"),
        ("{\"prompt_ids\":[-1],\"response_ids\":[2]}", "prompt_ids"),
        ("{\"prompt_ids\":[1]}", "response_ids"),
        ("{\"prompt_ids\"", "JSON"),
    ] {
        let (_dir, rows) = file("rows.jsonl", &format!("{good}\n{bad}\n"));
        bpo(&["score", "--model", arg(&model), "--input", arg(&rows)]).refused(3, &["rows.jsonl:2", word]);
    }
}

#[test]
fn a_foreign_tokenizer_is_refused_with_both_sizes() {
    let Some(model) = fixture("arch/llama-tied") else { return };
    let tokenizer = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/story/tokenizer.json");
    let row = "{\"prompt\":\"a\",\"response\":\"b\"}";
    let vocab = read(&model.join("config.json"))["vocab_size"].to_string();
    let run = bpo_reading(row, &["score", "--model", arg(&model), "--tokenizer", tokenizer, "--input", "-"]);
    run.refused(3, &["1023", &vocab]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let Some(model) = fixture("arch/llama-tied") else { return };
    let (_dir, rows) = file("rows.jsonl", &"{\"prompt_ids\":[1],\"response_ids\":[2,3,4]}\n".repeat(3000));
    let script =
        format!("{} -q score --model {} --input {} | head -1", env!("CARGO_BIN_EXE_bpo"), arg(&model), arg(&rows));
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_tokenizer_with_other_special_ids_is_refused_or_warned_of() {
    let Some(model) = fixture("stories260K") else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(model.join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let score = |config: Value| {
        std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let row = "{\"prompt\":\"a\",\"response\":\"b\"}";
        bpo_reading(row, &["score", "--model", arg(&model), "--tokenizer", arg(dir.path()), "--input", "-"])
    };
    score(json!({"bos_token": "</s>", "eos_token": "<s>"})).refused(3, &["id 2", "id 1"]);
    let run = score(json!({"bos_token": "<s>", "eos_token": "</s>"}));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("ends texts with id 2, the model with [1]"), "{}", run.stderr);
    let run = score(json!({"bos_token": "<s>", "eos_token": "<s>"}));
    assert_eq!((run.code, run.stderr.contains("warning")), (0, false), "{}", run.stderr);
}
