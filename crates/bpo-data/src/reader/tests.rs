use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn rows(bytes: impl AsRef<[u8]>) -> Result<Vec<(usize, Value)>, String> {
    read_json_rows_from("data", bytes.as_ref())
        .map(|rows| rows.into_iter().map(|row| (row.line, row.value)).collect())
        .map_err(|error| error.to_string())
}

fn fails(bytes: impl AsRef<[u8]>, expected: &str) {
    let Err(message) = rows(bytes) else { panic!("should fail with {expected:?}") };
    assert!(message.starts_with(expected), "{message:?} should start with {expected:?}");
    assert!(!message.contains("SECRET"), "{message}");
}

#[test]
fn bom_crlf_blank_lines_and_no_final_newline_are_fine() {
    let text = "\u{feff}\r\n{\"a\":1}\r\n\n  \n\t{\"a\":2} \n{\"a\":3}";
    let expected = [(2, json!({"a":1})), (5, json!({"a":2})), (6, json!({"a":3}))];
    assert_eq!(rows(text).unwrap(), expected);
    assert_eq!(rows(gzip(text.as_bytes())).unwrap(), expected);
}

#[test]
fn arrays_are_read_with_the_line_each_row_starts_on() {
    let text = "\u{feff}\n[\n {\"a\":\n1},\n\n {\"a\":2}, {\"a\":3}\n]\n";
    let expected = [(3, json!({"a":1})), (6, json!({"a":2})), (6, json!({"a":3}))];
    assert_eq!(rows(text).unwrap(), expected);
    assert_eq!(rows(gzip(text.as_bytes())).unwrap(), expected);
    assert_eq!(rows("[{}]").unwrap(), [(1, json!({}))]);
}

#[test]
fn concatenated_gzip_members_are_one_file() {
    let bytes = [gzip(b"{\"a\":1}\n"), gzip(b"{\"a\":2}\n")].concat();
    assert_eq!(rows(bytes).unwrap().len(), 2);
}

#[test]
fn bad_rows_stop_at_their_line_without_contents() {
    fails("{}\n{\"SECRET\": nope}\n", "data:2: bad JSON");
    fails("{}\n\n{\"SECRET\"", "data:3: bad JSON");
    fails("{\"SECRET\": 1} {\"SECRET\": 2}", "data:1: bad JSON");
    fails("{}\n\"SECRET\"\n", "data:2: the row is a string, not an object");
    fails("{}\n[\"SECRET\"]\n", "data:2: the row is a list, not an object");
    fails(b"{}\n{\"SECRET\": \"\xff\"}\n", "data:2: invalid UTF-8 at byte 13 of the row");
    fails("[\n{},\n\"SECRET\"]", "data:3: the row is a string, not an object");
    fails("[\n{}\n{\"SECRET\":1}]", "data:3: expected `,` or `]`");
    fails("[{}\n", "data:2: expected `,` or `]`");
    fails("[{},\n", "data:2: the array is not closed");
    fails("[{},\n{\"SECRET\": ", "data:2: bad JSON");
    fails("[{}]\nSECRET", "data:2: text after the end of the array");
    fails(b"[{\"SECRET\": \"\xff\"}]", "data:1: invalid UTF-8");
    fails("PAR1SECRET", "data:1: damaged Parquet");
}

#[test]
fn sources_without_rows_are_errors() {
    for empty in ["", "\n \r\n", "\u{feff}", "[]", " [ \n ] "] {
        fails(empty, "data: no rows");
    }
    fails(gzip(b""), "data: no rows");
}

#[test]
fn deep_nesting_is_a_typed_error() {
    let deep = "[".repeat(100_000);
    fails(format!("{{}}\n{{\"a\": {deep}"), "data:2: bad JSON: recursion limit exceeded");
    let closed = "]".repeat(100_000);
    fails(format!("[{{\"a\": {deep}{closed}}}]"), "data:1: bad JSON: recursion limit exceeded");
    fails(format!("[{{\"a\": {deep}"), "data:1: bad JSON: EOF");
}

#[test]
fn a_row_over_the_limit_is_refused_and_one_at_it_is_read() {
    let row = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
    assert_eq!(rows(format!("{{}}\n{}\n{{}}", row(MAX_ROW))).unwrap().len(), 3);
    assert_eq!(rows(format!("{{}}\n{}", row(MAX_ROW))).unwrap().len(), 2);
    fails(format!("{{}}\n{}\n", row(MAX_ROW + 1)), "data:2: the row is longer than 16 MiB");
    fails(gzip(row(100 << 20).as_bytes()), "data:1: the row is longer than 16 MiB");
    assert_eq!(rows(format!("[{},\n{{}}]", row(MAX_ROW))).unwrap().len(), 2);
    fails(format!("[{{}},\n{}]", row(MAX_ROW + 1)), "data:2: the row is longer than 16 MiB");
}

#[test]
fn damaged_and_missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.jsonl.gz");
    let text: String = (0..2_000).map(|i| format!("{{\"a\":{}}}\n", i * 7919)).collect();
    let whole = gzip(text.as_bytes());
    for keep in [3, 12, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..keep]).unwrap();
        let message = read_json_rows(&path).unwrap_err().to_string();
        assert!(message.contains("cut.jsonl.gz"), "{message}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(read_json_rows(&path).unwrap().len(), 2_000);
    let missing = read_json_rows(&dir.path().join("none.jsonl")).unwrap_err();
    assert!(matches!(&missing, Error::Io { path, .. } if path.ends_with("none.jsonl")));
    assert!(matches!(read_json_rows(dir.path()), Err(Error::Io { .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_rows_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = rows(&bytes);
    }

    #[test]
    fn any_json_like_text_is_rows_or_an_error(text in "([\\[\\]{},:\"\n \u{feff}é1a]|null){0,40}") {
        let _ = rows(&text);
    }

    #[test]
    fn every_container_holds_the_same_rows(values in prop::collection::vec("\\PC{0,8}", 1..8)) {
        let objects: Vec<Value> = values.iter().map(|v| json!({"k": v})).collect();
        let lines: String = objects.iter().map(|o| format!("{o}\n")).collect();
        let array = serde_json::to_vec_pretty(&objects).unwrap();
        for source in [lines.clone().into_bytes(), gzip(lines.as_bytes()), array.clone(), gzip(&array)] {
            let read: Vec<Value> = rows(source).unwrap().into_iter().map(|(_, v)| v).collect();
            prop_assert_eq!(&read, &objects);
        }
    }
}
