//! What a set must hold: names, lengths, hashes, and a seal over all of it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The manifest's name in its set.
pub(super) const FILE: &str = "manifest.json";
/// The version of the layout.
pub(super) const FORMAT: u32 = 1;

/// One file of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub name: String,
    pub length: u64,
    /// BLAKE3, in lower-case hexadecimal digits.
    pub blake3: String,
}

impl Entry {
    /// Of a file with this content.
    pub fn new(name: &str, length: u64, hash: &blake3::Hash) -> Self {
        Self { name: name.to_owned(), length, blake3: hash.to_hex().to_string() }
    }
}

/// The content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub format: u32,
    pub step: u64,
    pub files: Vec<Entry>,
}

/// What a manifest's bytes are.
pub(super) enum Found {
    /// A manifest of this version.
    Manifest(Manifest),
    /// An intact one of another version.
    OtherFormat(u32),
    /// Neither, for this reason.
    Damaged(String),
}

impl Manifest {
    /// Of a set without files.
    pub fn new(step: u64) -> Self {
        Self { format: FORMAT, step, files: Vec::new() }
    }

    /// The manifest with its seal.
    pub fn to_json(&self) -> Vec<u8> {
        let mut sealed = json!({"format": self.format, "step": self.step, "files": self.files});
        sealed["seal"] = seal(&sealed).into();
        sealed.to_string().into_bytes()
    }

    /// Reads a manifest and checks its seal.
    pub fn read(bytes: &[u8]) -> Found {
        match unsealed(bytes) {
            Err(reason) => Found::Damaged(format!("{FILE}: {reason}")),
            Ok(value) => match value["format"].as_u64().map(u32::try_from) {
                Some(Ok(format)) if format != FORMAT => Found::OtherFormat(format),
                _ => match serde_json::from_value(value) {
                    Ok(manifest) => Found::Manifest(manifest),
                    Err(error) => Found::Damaged(format!("{FILE}: {error}")),
                },
            },
        }
    }
}

/// The hash of everything but the seal, in the order in which it stands.
fn seal(unsealed: &Value) -> String {
    blake3::hash(unsealed.to_string().as_bytes()).to_hex().to_string()
}

/// The manifest without its seal, which must fit.
fn unsealed(bytes: &[u8]) -> Result<Value, String> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let object = value.as_object_mut().ok_or("not an object")?;
    let found = object.remove("seal").ok_or("no seal")?;
    match found.as_str() == Some(seal(&value).as_str()) {
        true => Ok(value),
        false => Err("the seal does not fit".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let entry = |name, bytes: &[u8]| Entry::new(name, bytes.len() as u64, &blake3::hash(bytes));
        Manifest { files: vec![entry("a.bin", b"abc"), entry("b.json", b"")], ..Manifest::new(12) }
    }

    #[test]
    fn a_manifest_reads_back() {
        let Found::Manifest(found) = Manifest::read(&sample().to_json()) else {
            panic!("refused");
        };
        assert_eq!(found, sample());
    }

    #[test]
    fn any_flipped_bit_or_missing_byte_damages_a_manifest() {
        let bytes = sample().to_json();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(matches!(Manifest::read(&damaged), Found::Damaged(_)), "{at}.{bit}");
            }
            assert!(matches!(Manifest::read(&bytes[..at]), Found::Damaged(_)), "{at}");
        }
    }

    #[test]
    fn another_format_is_told_from_damage() {
        let mut newer = sample();
        newer.format = 2;
        assert!(matches!(Manifest::read(&newer.to_json()), Found::OtherFormat(2)));
    }
}
