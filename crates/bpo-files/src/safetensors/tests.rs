use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use safetensors::tensor::TensorView;

use super::*;

fn bytes(names: &[&str]) -> Vec<u8> {
    let view = || TensorView::new(Dtype::F32, vec![2], &[0; 8]).unwrap();
    safetensors::serialize(names.iter().map(|name| (*name, view())), None).unwrap()
}

/// A model of the shards given, `(file, tensors)`, and an index of `(tensor, file)`.
fn model(shards: &[(&str, &[&str])], index: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, names) in shards {
        fs::write(dir.path().join(file), bytes(names)).unwrap();
    }
    fs::write(dir.path().join("model.safetensors.index.json"), format!("{{\"weight_map\":{{{index}}}}}")).unwrap();
    dir
}

const TWO: &[(&str, &[&str])] = &[("1.safetensors", &["a", "b"]), ("2.safetensors", &["c"])];
const INDEX: &str = r#""a":"1.safetensors","b":"1.safetensors","c":"2.safetensors""#;

fn refused(shards: &[(&str, &[&str])], index: &str) -> String {
    open(model(shards, index).path()).unwrap_err().to_string()
}

#[test]
fn shards_are_read_where_index_and_shards_agree() {
    let dir = model(TWO, INDEX);
    let entries = open(dir.path()).unwrap();
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(*entries["c"].file, *dir.path().join("2.safetensors"));
    assert_eq!(entries["b"].start, entries["a"].start + 8);
}

#[test]
fn an_index_cannot_leave_its_directory() {
    for shard in ["../x.safetensors", "/etc/passwd", "a/../../b", "sub/x.safetensors", "", ".", "..", "a\\b", "a\0b"] {
        let message = refused(&[], &format!("\"w\":{}", serde_json::to_string(shard).unwrap()));
        assert!(message.contains("plain file name inside the model directory"), "{shard}: {message}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_may_end_in_its_folder_or_in_the_hub_s_cache_and_nowhere_else() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), bytes(&["a"])).unwrap();
    let link = |target: &PathBuf| {
        let dir = model(&[("held", &["a"])], r#""a":"m.safetensors""#);
        let target = if target.is_absolute() { target.clone() } else { dir.path().join(target) };
        symlink(target, dir.path().join("m.safetensors")).unwrap();
        open(dir.path())
    };
    assert!(link(&"held".into()).is_ok());
    assert!(link(&outside.path().join("secret")).unwrap_err().to_string().contains("leads out of the model directory"));
    assert!(link(&"nothing".into()).is_err());

    let hub = tempfile::tempdir().unwrap();
    let (snapshot, blobs) = (hub.path().join("models--x/snapshots/r"), hub.path().join("models--x/blobs"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join("hash"), bytes(&["a"])).unwrap();
    fs::write(snapshot.join("model.safetensors.index.json"), r#"{"weight_map":{"a":"m.safetensors"}}"#).unwrap();
    symlink("../../blobs/hash", snapshot.join("m.safetensors")).unwrap();
    assert_eq!(open(&snapshot).unwrap().len(), 1);
}

#[test]
fn index_and_shards_must_hold_the_same_tensors_once() {
    let missing = refused(TWO, &format!("{INDEX},\"d\":\"2.safetensors\""));
    assert!(missing.contains("shard \"2.safetensors\" does not hold d"), "{missing}");
    let elsewhere = refused(TWO, &INDEX.replace(r#""c":"2."#, r#""c":"1."#).replace(r#""b":"1."#, r#""b":"2."#));
    assert!(elsewhere.contains("does not hold b; \"1.safetensors\" does"), "{elsewhere}");
    let extra = refused(TWO, r#""a":"1.safetensors","c":"2.safetensors""#);
    assert!(extra.contains("shard \"1.safetensors\" holds b, which the index does not list"), "{extra}");
    let in_both = refused(
        &[("1.safetensors", &["a"]), ("2.safetensors", &["a", "b"])],
        r#""a":"1.safetensors","b":"2.safetensors""#,
    );
    assert!(in_both.contains("shard \"2.safetensors\" holds a"), "{in_both}");
    let twice = refused(TWO, &format!("{INDEX},\"a\":\"2.safetensors\""));
    assert!(twice.contains("tensor a is listed twice"), "{twice}");
    let gone = refused(&[], INDEX);
    assert!(gone.contains("1.safetensors: "), "{gone}");
}

#[test]
fn an_index_of_another_form_is_refused() {
    for (text, word) in [
        ("", "EOF"),
        ("[]", "struct Index"),
        ("{}", "weight_map"),
        (r#"{"weight_map":[]}"#, "an object of tensors"),
        (r#"{"weight_map":{"a":1}}"#, "expected a string"),
        (r#"{"weight_map":{"a":null}}"#, "expected a string"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors.index.json"), text).unwrap();
        let message = open(dir.path()).unwrap_err().to_string();
        assert!(message.contains("model.safetensors.index.json") && message.contains(word), "{text}: {message}");
    }
}

#[test]
fn pickled_weights_are_named_and_never_read() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(open(dir.path()), Err(Error::Io { .. })));
    fs::write(dir.path().join("pytorch_model.bin"), b"\x80\x02").unwrap();
    assert!(open(dir.path()).unwrap_err().to_string().contains("convert to safetensors"));
}

const DTYPES: [(Dtype, usize); 4] = [(Dtype::F32, 4), (Dtype::BF16, 2), (Dtype::U8, 1), (Dtype::I64, 8)];

proptest! {
    #[test]
    fn what_the_format_s_own_writer_wrote_is_found_where_it_was_put(
        tensors in prop::collection::btree_map("[a-zé.]{1,12}", (0_usize..4, prop::collection::vec(0_usize..4, 0..4)), 0..8),
    ) {
        let data: BTreeMap<&String, Vec<u8>> = tensors
            .iter()
            .map(|(name, (kind, shape))| {
                let length = DTYPES[*kind].1 * shape.iter().product::<usize>();
                (name, (0..length).map(|i| (i * 7 + name.len()) as u8).collect())
            })
            .collect();
        let views = tensors.iter().map(|(name, (kind, shape))| {
            (name, TensorView::new(DTYPES[*kind].0, shape.clone(), &data[name]).unwrap())
        });
        let file = safetensors::serialize(views, None).unwrap();
        let entries = in_memory("m", &file).unwrap();
        prop_assert_eq!(entries.len(), tensors.len());
        for (name, entry) in &entries {
            let (kind, shape) = &tensors[name];
            prop_assert_eq!((entry.dtype, &entry.shape), (DTYPES[*kind].0, shape));
            let start = entry.start as usize;
            prop_assert_eq!(&file[start..start + entry.length], &data[name]);
        }
    }

    #[test]
    fn a_changed_file_is_refused_or_every_span_stays_inside(at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
        let mut file = bytes(&["a", "b"]);
        let at = at.index(file.len());
        file[at] = to;
        if to % 4 == 0 {
            file.truncate(cut.index(file.len()));
        }
        if let Ok(entries) = in_memory("m", &file) {
            let total: usize = entries.values().map(|entry| entry.length).sum();
            prop_assert!(entries.values().all(|e| e.start as usize + e.length <= file.len()));
            prop_assert!(total <= file.len());
        }
    }
}
