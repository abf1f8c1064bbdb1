//! Model files: every span lies inside its file, and every file inside its folder.
use std::{cell::OnceCell, fs, path::Path};

use bpo_files::{
    Error,
    safetensors::{Entries, in_memory, open},
};
use tempfile::TempDir;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = ["1.safetensors", "2.safetensors"];
const SHARD: &[u8] =
    br#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[],"data_offsets":[1,2]}}"#;

/// The first byte chooses: a whole file, a header (its length and some data are added), or the index of two shards.
pub fn safetensors(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    match choice % 3 {
        0 => file(data),
        1 => file(&with_length(data, usize::from(choice / 3))),
        _ => index(data),
    }
}

fn with_length(header: &[u8], zeros: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, &vec![0; zeros]].concat()
}

fn file(bytes: &[u8]) {
    match in_memory("fuzz", bytes) {
        Ok(entries) => {
            check_spans(&entries, bytes.len() as u64);
            // Stricter than the format's own reader, never laxer.
            let theirs = ::safetensors::SafeTensors::deserialize(bytes).expect("their reader takes it too");
            assert_eq!(theirs.len(), entries.len());
        }
        Err(error) => told(&error, "fuzz"),
    }
}

/// Spans cover the data without gap or overlap.
fn check_spans(entries: &Entries, size: u64) {
    let mut spans: Vec<(u64, u64)> = entries.values().map(|e| (e.start, e.start + e.length as u64)).collect();
    spans.sort_unstable();
    assert!(spans.windows(2).all(|two| two[0].1 == two[1].0), "{spans:?}");
    assert!(spans.last().is_none_or(|last| last.1 == size), "{spans:?} of {size}");
    for entry in entries.values() {
        let bits = entry.shape.iter().product::<usize>() * entry.dtype.bitsize();
        assert_eq!(bits, 8 * entry.length);
    }
}

fn index(text: &[u8]) {
    FOLDER.with(|cell| {
        let outer = cell.get_or_init(shards);
        let dir = outer.path().join("model");
        fs::write(dir.join(INDEX), text).expect("written");
        match open(&dir) {
            Ok(entries) => {
                for (name, entry) in &entries {
                    let found = SHARDS.iter().any(|shard| *entry.file == *dir.join(shard));
                    assert!(found && ["a", "b"].contains(&name.as_str()), "{name} of {}", entry.file.display());
                }
            }
            Err(error) => told(&error, "model"),
        }
    });
}

/// Two shards, and a file of the same form outside of their folder.
fn shards() -> TempDir {
    let outer = tempfile::tempdir().expect("a temporary folder");
    let write = |path: &Path| fs::write(path, with_length(SHARD, 2)).expect("written");
    let dir = outer.path().join("model");
    fs::create_dir(&dir).expect("created");
    SHARDS.iter().for_each(|shard| write(&dir.join(shard)));
    write(&outer.path().join("outside.safetensors"));
    outer
}

fn told(error: &Error, word: &str) {
    let message = error.to_string();
    assert!(message.contains(word) && message.len() < 3000, "{message}");
}
