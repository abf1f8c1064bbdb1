use serde_json::json;

use super::*;

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn metrics() -> Map<String, Value> {
    json!({"step": 3, "loss": 0.5, "rewards/margins": -2, "note": "none"}).as_object().unwrap().clone()
}

/// golden.hex was made by TensorBoard 2.21 in Python, by `RecordWriter(file).write(event_pb2.Event(...).SerializeToString())`
/// for each of these events.
#[test]
fn a_file_has_the_bytes_that_tensorboard_writes() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(dir.path(), 1, 12.5).unwrap();
    writer.scalars(3, 13.5, &metrics()).unwrap();
    writer.text(4, 14.5, "pair", "a < b").unwrap();
    let hex: String = files(dir.path())[0].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("golden.hex").trim());
}

#[test]
fn a_run_that_goes_on_begins_a_file_that_voids_later_steps() {
    let dir = tempfile::tempdir().unwrap();
    for step in [1, 300] {
        EventWriter::create(dir.path(), step, 0.0).unwrap().scalars(step, 0.0, &metrics()).unwrap();
    }
    let files = files(dir.path());
    assert_eq!(files.len(), 2);
    // Field 2, the step, is 300; field 7, the session's state, is 1.
    let restart = [&[0x10, 0xac, 0x02][..], &[0x3a, 0x02, 0x08, 0x01]].concat();
    let has = |file: &[u8]| file.windows(restart.len()).any(|window| window == restart);
    assert!(!has(&files[0]) && has(&files[1]));
}

#[test]
fn a_folder_that_is_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tensorboard");
    fs::write(&path, "").unwrap();
    let told = EventWriter::create(&path, 1, 0.0).unwrap_err().to_string();
    assert!(told.contains("tensorboard"), "{told}");
}

#[test]
fn verbatim_text_is_no_markdown() {
    assert_eq!(verbatim("# a\n<b>"), "    # a\n    <b>");
}
