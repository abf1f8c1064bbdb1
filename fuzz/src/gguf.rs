//! GGUF files: every tensor lies inside the file, on its own place, and has the values that its shape says.
use bpo_files::gguf::{Value, in_memory};

/// A whole file.
pub fn gguf(data: &[u8]) {
    match in_memory("fuzz", data) {
        Ok(gguf) => {
            let mut spans: Vec<(u64, u64)> =
                gguf.tensors.values().map(|tensor| (tensor.start, tensor.start + tensor.length as u64)).collect();
            spans.sort_unstable();
            assert!(spans.windows(2).all(|two| two[0].1 <= two[1].0), "{spans:?}");
            assert!(spans.last().is_none_or(|last| last.1 <= data.len() as u64), "{spans:?}");
            for tensor in gguf.tensors.values() {
                let bytes = &data[tensor.start as usize..][..tensor.length];
                assert_eq!(tensor.kind.dequantise(bytes).len(), tensor.shape.iter().product::<usize>());
            }
            let held = |value: &Value| match value {
                Value::Text(text) => text.len(),
                Value::Texts(texts) => texts.iter().map(str::len).sum(),
                Value::Integers(list) => list.len(),
                Value::Floats(list) => list.len(),
                Value::Integer(_) | Value::Float(_) | Value::Bool(_) => 1,
            };
            assert!(gguf.metadata.values().map(held).sum::<usize>() <= data.len());
            // The same file reads the same, and says of a key what it is or that it is something else.
            assert_eq!(in_memory("fuzz", data).map(|again| again.tensors).ok(), Some(gguf.tensors.clone()));
            for key in gguf.metadata.keys() {
                let read = [gguf.text(key).is_ok(), gguf.number(key).is_ok(), gguf.flag(key).is_ok()];
                assert!(read.iter().filter(|read| **read).count() <= 1, "{key}");
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("fuzz") && message.len() < 3000, "{message}");
        }
    }
}
