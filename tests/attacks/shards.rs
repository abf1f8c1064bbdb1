//! Indexes that lead elsewhere, or disagree with their shards. Each builder makes a folder with `model` inside.
use std::fs;

use tempfile::TempDir;

use super::safetensors::file;

pub struct Attack {
    pub name: &'static str,
    pub build: fn() -> TempDir,
    pub words: &'static [&'static str],
}

const LEAVES: &[&str] = &["index.json", "plain file name inside the model directory"];

pub const ATTACKS: &[Attack] = &[
    Attack { name: "a shard in the folder above", build: || indexed(r#""a":"../outside.safetensors""#), words: LEAVES },
    Attack {
        name: "a shard in the folder above, by a detour",
        build: || indexed(r#""a":"x/../../outside.safetensors""#),
        words: LEAVES,
    },
    Attack { name: "an absolute path", build: || indexed(r#""a":"/etc/passwd""#), words: LEAVES },
    Attack { name: "a folder below", build: || indexed(r#""a":"sub/1.safetensors""#), words: LEAVES },
    Attack {
        name: "a path in Windows' spelling",
        build: || indexed(r#""a":"..\\outside.safetensors""#),
        words: LEAVES,
    },
    Attack { name: "an empty name", build: || indexed(r#""a":"""#), words: LEAVES },
    Attack { name: "the folder itself", build: || indexed(r#""a":".""#), words: LEAVES },
    Attack { name: "a NUL in the name", build: || indexed(r#""a":"1.safetensors\u0000""#), words: LEAVES },
    Attack { name: "a link out of the folder", build: link, words: &["leads out of the model directory"] },
    Attack {
        name: "a shard that is not there",
        build: || indexed(r#""a":"9.safetensors""#),
        words: &["9.safetensors"],
    },
    Attack { name: "a shard that is a folder", build: || indexed(r#""a":"folder""#), words: &["is a folder"] },
    Attack {
        name: "a tensor no shard holds",
        build: || indexed(r#""a":"1.safetensors","z":"1.safetensors""#),
        words: &["1.safetensors", "does not hold z"],
    },
    Attack {
        name: "a tensor the index leaves out",
        build: || indexed(r#""a":"2.safetensors""#),
        words: &["2.safetensors", "holds b"],
    },
    Attack {
        name: "a tensor listed twice",
        build: || indexed(r#""a":"1.safetensors","a":"2.safetensors","b":"2.safetensors""#),
        words: &["tensor a is listed twice"],
    },
    Attack {
        name: "a tensor in two shards",
        build: || indexed(r#""a":"1.safetensors","b":"2.safetensors""#),
        words: &["2.safetensors", "holds a"],
    },
    Attack {
        name: "a shard that is a number",
        build: || indexed(r#""a":1"#),
        words: &["index.json", "expected a string"],
    },
    Attack { name: "an index without a map", build: || with_index("{}"), words: &["index.json", "weight_map"] },
    Attack { name: "an index that is no JSON", build: || with_index("weight_map"), words: &["index.json"] },
];

fn tensors(names: &[&str]) -> Vec<u8> {
    let one = |(at, name): (usize, &&str)| {
        format!(r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{at},{}]}}"#, at + 1)
    };
    let list: Vec<String> = names.iter().enumerate().map(one).collect();
    file(&format!("{{{}}}", list.join(",")), names.len())
}

fn indexed(map: &str) -> TempDir {
    with_index(&format!("{{\"weight_map\":{{{map}}}}}"))
}

/// `1.safetensors` holds `a`, `2.safetensors` holds `a` and `b`; a file like the first lies outside.
fn with_index(index: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    fs::create_dir_all(model.join("folder")).unwrap();
    fs::write(dir.path().join("outside.safetensors"), tensors(&["a"])).unwrap();
    fs::write(model.join("1.safetensors"), tensors(&["a"])).unwrap();
    fs::write(model.join("2.safetensors"), tensors(&["a", "b"])).unwrap();
    fs::write(model.join("model.safetensors.index.json"), index).unwrap();
    dir
}

fn link() -> TempDir {
    let dir = indexed(r#""a":"3.safetensors""#);
    #[cfg(unix)]
    std::os::unix::fs::symlink(dir.path().join("outside.safetensors"), dir.path().join("model/3.safetensors")).unwrap();
    dir
}
