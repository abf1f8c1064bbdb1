//! The bodies of the fuzz targets (`fuzz/`) over their corpus and the inputs that once broke them.
use std::{fs, path::Path, path::PathBuf};

#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Runs a target over its files; a target that fails panics.
fn run(name: &str, target: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut count = 0;
    for folder in ["corpus", "regressions"] {
        let Ok(entries) = fs::read_dir(root.join(folder).join(name)) else { continue };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
            count += 1;
        }
    }
    assert!(count > 0, "{name} has no corpus");
}

macro_rules! targets {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            run(stringify!($name), targets::$name);
        }
    )*};
}

targets!(chat_template, config, gguf, journal, judge_reply, jsonl, loss_expression, safetensors, tokenizer_json);
