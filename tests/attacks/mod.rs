//! Hostile files through the program: exit code, message, time and memory. One builder per attack; the README says
//! what each one does.
mod configs;
mod measured;
mod rows;
mod safetensors;
mod shards;
mod templates;
mod tokenizers;
mod weights;

use std::{fs, path::Path};

use tempfile::TempDir;

use measured::{Measured, measured};

/// Memory of the program beyond the file it reads, in bytes.
const ROOM: u64 = 64 << 20;
/// A small model's configuration.
const CONFIG: &str = r#"{"model_type":"llama","vocab_size":300,"hidden_size":8,"intermediate_size":8,
    "num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":64}"#;

/// A folder of `(name, content)`.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Asserts that it was refused as bad input with all of `words`, within the memory that `bytes` of files justify.
fn refused(run: &Measured, name: &str, bytes: usize, words: &[&str]) {
    assert_eq!(run.code, Some(3), "{name}: {}", run.stderr);
    assert_eq!(run.stdout, "", "{name}");
    for word in words {
        assert!(run.stderr.contains(word), "{name}: `{word}` is not in: {}", run.stderr);
    }
    assert!(run.stderr.len() < 4_000, "{name}: {} bytes of message", run.stderr.len());
    within_memory(run, name, bytes);
}

fn within_memory(run: &Measured, name: &str, bytes: usize) {
    let Some(peak) = run.peak else { return };
    assert!(peak <= bytes as u64 + ROOM, "{name}: {} MiB for a file of {bytes} bytes", peak >> 20);
}

#[test]
fn malformed_safetensors_are_refused_for_their_reason_in_bounded_memory() {
    for attack in safetensors::ATTACKS {
        let bytes = (attack.build)();
        let dir = folder(&[("config.json", CONFIG.as_bytes()), ("model.safetensors", &bytes)]);
        let words = [attack.words, &["model.safetensors"]].concat();
        refused(&measured(&["inspect", text(dir.path())]), attack.name, bytes.len(), &words);
    }
}

#[test]
fn an_index_leads_nowhere_but_to_its_own_shards() {
    for attack in shards::ATTACKS {
        let dir = (attack.build)();
        let model = dir.path().join("model");
        fs::write(model.join("config.json"), CONFIG).unwrap();
        refused(&measured(&["inspect", text(&model)]), attack.name, 0, attack.words);
    }
}

#[test]
fn absurd_sizes_in_a_configuration_are_refused_by_name_before_memory_is_asked_for() {
    for (name, config, words) in configs::attacks() {
        let header = safetensors::file("{}", 0);
        let dir = folder(&[("config.json", config.as_bytes()), ("model.safetensors", &header)]);
        refused(&measured(&["inspect", text(dir.path())]), name, config.len(), words);
    }
}

#[test]
fn weights_that_cannot_be_computed_with_are_refused_by_the_tensor_s_name() {
    for (name, build, words) in weights::ATTACKS {
        let Some((dir, bytes)) = build() else { continue };
        let rows = dir.path().join("rows.jsonl");
        fs::write(&rows, "{\"prompt_ids\":[1],\"response_ids\":[2]}\n").unwrap();
        let run = measured(&["score", "--model", text(dir.path()), "--input", text(&rows)]);
        refused(&run, name, 2 * bytes, words);
    }
}

#[test]
fn a_hostile_tokenizer_ends_in_ids_or_in_a_typed_error() {
    for (name, tokenizer) in tokenizers::attacks() {
        let dir = folder(&[("tokenizer.json", tokenizer.as_bytes()), ("rows.jsonl", rows::TEXTS.as_bytes())]);
        let rows = dir.path().join("rows.jsonl");
        let run = measured(&["inspect", text(&rows), "--model", text(dir.path())]);
        assert!(matches!(run.code, Some(0 | 3)), "{name}: {:?} {}", run.code, run.stderr);
        assert!(run.seconds < 5.0, "{name}: {} s", run.seconds);
        // A vocabulary in memory is several times as large as in JSON.
        within_memory(&run, name, 8 * tokenizer.len());
    }
}

#[test]
fn a_hostile_chat_template_is_a_typed_error_within_a_second() {
    let tokenizer = tokenizers::bytes_only();
    for (name, template) in templates::attacks() {
        let dir = folder(&[
            ("tokenizer.json", tokenizer.as_bytes()),
            ("chat_template.jinja", template.as_bytes()),
            ("rows.jsonl", rows::CHAT.as_bytes()),
        ]);
        let rows = dir.path().join("rows.jsonl");
        let run = measured(&["inspect", text(&rows), "--model", text(dir.path())]);
        // 64 MiB is what a rendering may make in all, beside the program itself.
        refused(&run, name, template.len() + (64 << 20), &["chat template"]);
        assert!(run.seconds < 2.0, "{name}: {} s", run.seconds);
    }
}

#[test]
fn a_bad_row_stops_at_its_file_and_line_and_is_never_repeated() {
    for attack in rows::attacks() {
        let dir = folder(&[(attack.file, &attack.content)]);
        let path = dir.path().join(attack.file);
        let run = measured(&["inspect", text(&path)]);
        refused(&run, attack.name, attack.content.len(), &[attack.file, attack.word]);
        assert!(!run.stderr.contains("SECRET"), "{}: {}", attack.name, run.stderr);
    }
}
