use serde_json::Value as Json;

use super::*;

#[path = "../../../../tests/gguf/mod.rs"]
mod files;
use files::{File as Made, Meta};

fn read(file: &Made) -> Gguf {
    in_memory("m.gguf", &file.bytes()).unwrap()
}

fn refused(bytes: &[u8]) -> String {
    let error = in_memory("m.gguf", bytes).unwrap_err();
    assert!(matches!(error, Error::Gguf { .. }));
    let message = error.to_string();
    assert!(message.starts_with("m.gguf: GGUF: ") && message.len() < 600, "{message}");
    message
}

#[test]
fn every_kind_of_block_gives_the_values_of_the_gguf_package() {
    let golden: Json = serde_json::from_str(include_str!("golden.json")).unwrap();
    let kinds = [0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 30].map(|number| Kind::of(number).unwrap());
    assert_eq!(golden.as_object().unwrap().len(), kinds.len());
    for kind in kinds {
        let case = &golden[kind.name()];
        let hex = case["bytes"].as_str().unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let expected: Vec<f32> =
            case["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
        assert_eq!(kind.dequantise(&bytes), expected, "{}", kind.name());
        assert_eq!(expected.len(), 2 * kind.block().0);
    }
}

#[test]
fn metadata_and_tensors_are_read_as_they_were_written() {
    let file = Made::new()
        .with("general.architecture", Meta::Text("llama"))
        .with("llama.block_count", Meta::U32(3))
        .with("eps", Meta::F32(1e-5))
        .with("yes", Meta::Bool(true))
        .with("tokens", Meta::Texts(vec!["a", "", "über"]))
        .with("types", Meta::I32s(vec![1, -3]))
        .with("same", Meta::I32s(vec![7, 7, 7]))
        .with("scores", Meta::F32s(vec![0.5, -1.0]))
        .floats("w", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
        .tensor("q", &[2, 32], files::Q8_0, &[1; 68]);
    let gguf = read(&file);
    assert_eq!(gguf.architecture().unwrap(), "llama");
    assert_eq!(gguf.size("llama.block_count").unwrap(), Some(3));
    // As a person would write it.
    assert_eq!(gguf.number("eps").unwrap(), Some(1e-5));
    assert_eq!(gguf.flag("yes").unwrap(), Some(true));
    assert_eq!(gguf.texts("tokens").unwrap().unwrap().iter().collect::<Vec<_>>(), ["a", "", "über"]);
    assert_eq!(gguf.texts("tokens").unwrap().unwrap().get(3), None);
    assert_eq!(gguf.integers("types").unwrap(), Some(&[1, -3][..]));
    assert_eq!(gguf.size("same").unwrap(), Some(7));
    assert_eq!(gguf.floats("scores").unwrap(), Some(&[0.5, -1.0][..]));
    assert_eq!(gguf.text("nothing").unwrap(), None);
    let bytes = file.bytes();
    let tensor = |name: &str| &gguf.tensors[name];
    let values = |name: &str| {
        let found = tensor(name);
        found.kind.dequantise(&bytes[found.start as usize..][..found.length])
    };
    assert_eq!((&tensor("w").shape, values("w")), (&vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    assert_eq!((tensor("q").kind, tensor("q").length, values("q").len()), (Kind::Q8_0, 68, 64));
}

#[test]
fn a_value_of_another_type_names_its_key() {
    let gguf = read(&Made::new().with("general.architecture", Meta::U32(1)).with("n", Meta::F32(f32::NAN)));
    assert!(gguf.architecture().unwrap_err().to_string().contains("general.architecture must be a text"));
    assert!(gguf.number("n").is_err() && gguf.size("n").is_err() && gguf.texts("n").is_err());
    let uneven = read(&Made::new().with("kv", Meta::I32s(vec![1, 2])));
    assert!(uneven.size("kv").unwrap_err().to_string().contains("same for all layers"));
    assert!(read(&Made::new()).architecture().is_err());
}

#[test]
fn another_file_version_or_byte_order_is_told() {
    let good = Made::new().bytes();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    assert!(refused(b"").contains("GGUF"));
    assert!(refused(b"PK\x03\x04zip").contains("does not begin"));
    assert!(refused(&with(4, &1_u32.to_le_bytes())).contains("version 1"));
    assert!(refused(&with(4, &4_u32.to_le_bytes())).contains("version 4"));
    assert!(refused(&with(4, &3_u32.to_be_bytes())).contains("big-endian"));
}

#[test]
fn an_unread_quantisation_names_the_tensor_and_its_type() {
    let message = refused(&Made::new().tensor("blk.0.ffn_up.weight", &[1, 256], 21, &[0; 110]).bytes());
    assert!(message.contains("blk.0.ffn_up.weight is IQ3_S") && message.contains("Q4_K"), "{message}");
    assert!(refused(&Made::new().tensor("t", &[1], 77, &[0; 4]).bytes()).contains("type 77"));
}

#[test]
fn tensors_that_do_not_lie_where_they_must_are_named() {
    let file = Made::new().floats("a", &[4], &[0.0; 4]);
    let at = |offset| refused(&file.clone().tensor_at("b", &[4], 0, offset, &[0; 16]).bytes());
    assert!(at(0).contains("tensor b") || at(0).contains("tensor a"));
    assert!(at(16).contains("tensor b lies at 16"));
    assert!(at(64).contains("32 is the next place"));
    assert!(at(u64::MAX).contains("tensor b"));
    let whole = file.bytes();
    assert!(refused(&whole[..whole.len() - 17]).contains("download complete"));
    assert!(refused(&Made::new().tensor("q", &[2, 31], 8, &[0; 68]).bytes()).contains("impossible in Q8_0"));
    assert!(refused(&Made::new().tensor("h", &[usize::MAX, 9], 0, &[]).bytes()).contains("impossible"));
    assert!(refused(&Made::new().tensor("d", &[1; 5], 0, &[0; 4]).bytes()).contains("5 dimensions"));
    let twice = Made::new().floats("a", &[1], &[0.0]).floats("a", &[1], &[0.0]);
    assert!(refused(&twice.bytes()).contains("twice"));
}

#[test]
fn counts_that_the_file_has_no_room_for_are_refused_before_memory_is_asked_for() {
    for (tensors, pairs) in [(u64::MAX, 0), (0, u64::MAX), (1 << 40, 1 << 40), (3, 0), (0, 3)] {
        let message = refused(&Made::new().counting(tensors, pairs));
        assert!(message.contains("room") || message.contains("at most"), "{message}");
    }
    let list = |kind: u32, count: u64| {
        let bytes = [&kind.to_le_bytes()[..], &count.to_le_bytes(), &[0; 64]].concat();
        refused(&Made::new().with("k", Meta::Raw(9, bytes)).bytes())
    };
    for kind in [0, 5, 8, 10, 12] {
        assert!(list(kind, 1 << 50).contains("k: it says it has"), "{kind}");
    }
    assert!(list(9, 1).contains("list of lists"));
    assert!(list(99, 1).contains("type 99"));
    let long = |length: u64| refused(&Made::new().with("k", Meta::Raw(8, length.to_le_bytes().to_vec())).bytes());
    assert!(long(u64::MAX).contains("says it has"));
    assert!(
        refused(&Made::new().with("k", Meta::Raw(8, [&2_u64.to_le_bytes()[..], &[0xff, 0xfe]].concat())).bytes())
            .contains("UTF-8")
    );
    let twice = Made::new().with("k", Meta::U32(1)).with("k", Meta::U32(1));
    assert!(refused(&twice.bytes()).contains("k is there twice"));
    assert!(refused(&Made::new().with("general.alignment", Meta::U32(0)).bytes()).contains("alignment"));
}

#[test]
fn a_header_cut_anywhere_is_an_error_and_never_more() {
    let file = Made::new().with("k", Meta::Texts(vec!["a", "b"])).floats("w", &[2], &[1.0, 2.0]).bytes();
    let end = file.len() - 32;
    for length in 0..end + 8 {
        refused(&file[..length]);
    }
    assert!(in_memory("m.gguf", &file[..end + 8]).is_ok(), "padding after the last tensor may be missing");
}

#[test]
fn a_file_is_told_by_its_first_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("any.bin");
    std::fs::write(&path, Made::new().bytes()).unwrap();
    assert!(is_one(&path) && !is_one(dir.path()) && !is_one(&dir.path().join("none")));
    assert_eq!(open(&path).unwrap().version, 3);
    std::fs::write(&path, "GG").unwrap();
    assert!(!is_one(&path));
}

proptest::proptest! {
    /// Whatever is changed, a file is refused in words or its tensors lie inside of it.
    #[test]
    fn a_damaged_file_is_refused_or_stays_within_its_bounds(
        changes in proptest::collection::vec((0_usize..700, proptest::num::u8::ANY), 1..12),
        length in 0_usize..900,
    ) {
        let file = Made::new()
            .with("general.architecture", Meta::Text("llama"))
            .with("tokens", Meta::Texts(vec!["a", "bc", "def"]))
            .with("scores", Meta::F32s(vec![0.0, -1.0]))
            .with("n", Meta::U32(7))
            .floats("w", &[2, 3], &[0.5; 6])
            .tensor("q", &[2, 32], files::Q8_0, &[1; 68]);
        let mut bytes = file.bytes();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(length.max(64));
        match in_memory("m.gguf", &bytes) {
            Ok(gguf) => {
                for tensor in gguf.tensors.values() {
                    let values = tensor.kind.dequantise(&bytes[tensor.start as usize..][..tensor.length]);
                    assert_eq!(values.len(), tensor.shape.iter().product::<usize>());
                }
            }
            Err(error) => assert!(error.to_string().len() < 2000),
        }
    }
}
