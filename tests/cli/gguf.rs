//! GGUF files through every verb that takes a model.
use std::{fs, path::Path};

use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::bpo::{arg, bpo, bpo_reading, fixture, json};
use crate::gguf::{self, File, Meta};

const ROWS: &str = "{\"prompt\":\"Once upon a time\",\"response\":\" there was a cat.\"}\n\
    {\"prompt\":\"The dog\",\"response\":\" ran to the  park,\\nand \u{65e5}\u{672c}.\"}\n";

/// The fixture's model, converted as llama.cpp does.
fn converted(dir: &Path) -> File {
    let config = json(&dir.join("config.json"));
    let size = |key: &str| Meta::U32(config[key].as_u64().unwrap() as u32);
    let number = |key: &str| Meta::F32(config[key].as_f64().unwrap() as f32);
    let mut file = tokenizer(&json(&dir.join("tokenizer.json")))
        .with("general.architecture", Meta::Text("llama"))
        .with("llama.block_count", size("num_hidden_layers"))
        .with("llama.context_length", size("max_position_embeddings"))
        .with("llama.embedding_length", size("hidden_size"))
        .with("llama.feed_forward_length", size("intermediate_size"))
        .with("llama.attention.head_count", size("num_attention_heads"))
        .with("llama.attention.head_count_kv", size("num_key_value_heads"))
        .with("llama.attention.layer_norm_rms_epsilon", number("rms_norm_eps"))
        .with("llama.rope.freq_base", number("rope_theta"));
    let bytes = fs::read(dir.join("model.safetensors")).unwrap();
    let head = config["head_dim"].as_u64().unwrap() as usize;
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let (data, shape) = (view.data(), view.shape());
        let row = data.len() / shape[0];
        // Rows of a head's halves become pairs.
        let from = |to: usize| to / head * head + to % 2 * (head / 2) + to % head / 2;
        let is_rotated = name.contains("q_proj") || name.contains("k_proj");
        let rows = (0..shape[0]).map(|to| if is_rotated { from(to) } else { to });
        let data: Vec<u8> = rows.flat_map(|from| &data[from * row..][..row]).copied().collect();
        file = file.tensor(&ggml_name(&name), shape, gguf::F32, &data);
    }
    file
}

fn ggml_name(name: &str) -> String {
    let replaced = [
        ("model.layers.", "blk."),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ];
    replaced.into_iter().fold(name.to_owned(), |name, (ours, theirs)| name.replace(ours, theirs))
}

/// Pieces whose scores fall with their ids, as they were learnt.
fn tokenizer(raw: &Value) -> File {
    let vocab = raw["model"]["vocab"].as_object().unwrap();
    let mut tokens: Vec<(&str, u64)> = vocab.iter().map(|(token, id)| (token.as_str(), id.as_u64().unwrap())).collect();
    tokens.sort_by_key(|(_, id)| *id);
    let kind = |(token, id): &(&str, u64)| match id {
        0 => 2,
        1 | 2 => 3,
        _ if token.starts_with("<0x") => 6,
        _ => 1,
    };
    File::new()
        .with("tokenizer.ggml.model", Meta::Text("llama"))
        .with("tokenizer.ggml.tokens", Meta::Texts(tokens.iter().map(|(token, _)| *token).collect()))
        .with("tokenizer.ggml.token_type", Meta::I32s(tokens.iter().map(kind).collect()))
        .with("tokenizer.ggml.scores", Meta::F32s(tokens.iter().map(|(_, id)| 259.0 - *id as f32).collect()))
        .with("tokenizer.ggml.bos_token_id", Meta::U32(1))
        .with("tokenizer.ggml.eos_token_id", Meta::U32(1))
}

/// The file in a folder of its own, and its path.
fn written(file: &File) -> (TempDir, String) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    fs::write(&path, file.bytes()).unwrap();
    let path = arg(&path).to_owned();
    (dir, path)
}

fn logps(model: &str) -> Vec<f64> {
    let rows = bpo_reading(ROWS, &["score", "--model", model, "--input", "-"]).rows();
    rows.iter().map(|row| row["logp"].as_f64().unwrap()).collect()
}

fn assert_close(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() < 1e-3, "{ours} {theirs}");
    }
}

#[test]
fn a_gguf_file_scores_as_the_directory_that_it_was_made_of() {
    let Some(dir) = fixture("stories260K") else { return };
    let (_folder, path) = written(&converted(&dir));
    assert_close(&logps(&path), &logps(arg(&dir)));
    let generated = |model: &str| {
        let args = ["generate", "--model", model, "--prompt", "Once upon a time", "--greedy", "--max-new-tokens", "12"];
        bpo(&args).stdout
    };
    assert_eq!(generated(&path), generated(arg(&dir)));
}

#[test]
fn inspect_says_what_a_gguf_file_holds() {
    let Some(dir) = fixture("stories260K") else { return };
    let (_folder, path) = written(&converted(&dir));
    let facts = bpo(&["inspect", "--json", &path]).rows().remove(0);
    assert_eq!((&facts["kind"], &facts["architecture"]), (&"language model".into(), &"llama".into()));
    assert_eq!((&facts["dtype"], &facts["tokenizer"]["vocab_size"]), (&"F32".into(), &512.into()));
    assert!(facts["quantisations"]["F32"].as_u64().unwrap() > 40, "{facts}");
    assert_eq!(facts["parameters"], bpo(&["inspect", "--json", arg(&dir)]).rows()[0]["parameters"]);
}

#[test]
fn an_adapter_of_a_gguf_model_names_it_and_merges_into_a_directory_with_a_tokenizer() {
    let Some(dir) = fixture("stories260K") else { return };
    let (folder, path) = written(&converted(&dir));
    let run = folder.path().join("run");
    let (_data, data) = super::bpo::file("data.jsonl", "{\"prompt\":\"Once\",\"completion\":\" upon a time\"}\n");
    let set = |key: &str, value: &str| format!("{key}={value}");
    let (model, data) = (set("model", &path), set("data", arg(&data)));
    let args = ["--set", "max_steps=2", "--set", "learning_rate=0.01", "--set", &model, "--set", &data];
    bpo(&[&["sft", "--run-dir", arg(&run)], &args[..]].concat()).succeeded();
    let adapter = run.join("adapter");
    assert_eq!(json(&adapter.join("adapter_config.json"))["base_model_name_or_path"], path.as_str());
    let inputs = json(&run.join("inputs.json"));
    assert_eq!(inputs["model"], inputs["tokenizer"]);
    let out = folder.path().join("merged");
    bpo(&["merge", "--adapter", arg(&adapter), "--out", arg(&out)]).succeeded();
    let mut names: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names, expected);
    let rows = bpo_reading(ROWS, &["score", "--model", &path, "--adapter", arg(&adapter), "--input", "-"]).rows();
    let adapted: Vec<f64> = rows.iter().map(|row| row["logp"].as_f64().unwrap()).collect();
    assert_close(&logps(arg(&out)), &adapted);
    assert!((adapted[0] - logps(&path)[0]).abs() > 1e-3, "the adapter does nothing");
}

#[test]
fn files_that_are_not_read_are_refused_for_their_reason() {
    let refused = |file: &File, words: &[&str]| {
        let (_folder, path) = written(file);
        for args in [&["inspect", &path][..], &["generate", "--model", &path, "--prompt", "a"]] {
            bpo(args).refused(3, &[words, &["tiny.gguf"]].concat());
        }
    };
    let llama = || File::new().with("general.architecture", Meta::Text("llama"));
    refused(
        &llama().tensor("blk.0.ffn_up.weight", &[1, 256], 16, &[0; 66]),
        &["blk.0.ffn_up.weight", "IQ2_XXS", "Q4_K"],
    );
    refused(&File::new().with("general.architecture", Meta::Text("rwkv7")), &["rwkv7", "supported: llama"]);
    refused(&llama(), &["llama.embedding_length"]);
    let dir = tempdir().unwrap();
    let path = dir.path().join("cut.gguf");
    fs::write(&path, &llama().floats("w", &[64], &[0.0; 64]).bytes()[..120]).unwrap();
    bpo(&["inspect", arg(&path)]).refused(3, &["cut.gguf", "download complete"]);
    bpo(&["inspect", "no/such.gguf"]).refused(3, &["no/such.gguf"]);
}
