//! The malformed files of `tests/attacks`, without the program around this crate.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use bpo_files::{Error, safetensors};

#[path = "../../../tests/attacks/safetensors.rs"]
mod malformed;

#[test]
fn every_malformed_file_is_refused_for_its_reason_on_disk_and_in_memory() {
    assert!(malformed::ATTACKS.len() >= 33);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    for attack in malformed::ATTACKS {
        let bytes = (attack.build)();
        std::fs::write(&path, &bytes).unwrap();
        for result in [safetensors::open(dir.path()), safetensors::in_memory("model.safetensors", &bytes)] {
            let error = result.expect_err(attack.name);
            assert!(matches!(error, Error::Safetensors { .. }), "{}: {error}", attack.name);
            let message = error.to_string();
            assert!(message.contains("model.safetensors") && message.len() < 1500, "{}: {message}", attack.name);
            for word in attack.words {
                assert!(message.contains(word), "{}: `{word}` is not in: {message}", attack.name);
            }
        }
    }
}

#[test]
fn a_file_of_nothing_and_a_file_of_a_tensor_are_read() {
    assert!(safetensors::in_memory("m", &malformed::file("{}", 0)).unwrap().is_empty());
    let header = r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}"#;
    let entries = safetensors::in_memory("m", &malformed::file(header, 12)).unwrap();
    assert_eq!((&entries["w"].shape, entries["w"].length), (&vec![2, 3], 12));
    // Other writers pad the header with spaces.
    assert!(safetensors::in_memory("m", &malformed::file(&format!("{header}   "), 12)).is_ok());
}
