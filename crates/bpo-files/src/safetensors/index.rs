//! The index of a sharded model.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::Entries;
use super::header::{MAX_TENSORS, read_header};
use crate::{Error, whole};

/// Most shards of a model.
const MAX_SHARDS: usize = 1 << 12;

/// Opens every shard of an index; the two must tell of the same tensors.
pub(super) fn open(dir: &Path, path: &Path) -> Result<Entries, Error> {
    let bytes = whole::read_json_file(path)?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Json { path: path.to_path_buf(), reason: error.to_string() })?;
    let refused = |shard: &str, reason: String| Error::Shard { path: path.to_path_buf(), shard: shown(shard), reason };
    let mut shards: BTreeMap<&str, Entries> = BTreeMap::new();
    for (_, shard) in &index.weight_map.0 {
        if shards.contains_key(shard.as_str()) {
            continue;
        }
        if shards.len() == MAX_SHARDS {
            return Err(refused(shard, format!("is one of more than {MAX_SHARDS}")));
        }
        let file = contained(dir, shard).map_err(|reason| refused(shard, reason))?;
        shards.insert(shard, read_header(&file)?);
        if shards.values().map(Entries::len).sum::<usize>() > MAX_TENSORS {
            return Err(refused(shard, format!("brings the tensors to more than {MAX_TENSORS}")));
        }
    }
    let mut entries = Entries::new();
    for (tensor, shard) in &index.weight_map.0 {
        match shards.get_mut(shard.as_str()).and_then(|held| held.remove(tensor)) {
            Some(entry) => entries.insert(tensor.clone(), entry),
            None => {
                let holder = shards.iter().find(|(_, held)| held.contains_key(tensor)).map(|(name, _)| *name);
                return Err(missing(path, tensor, shard, holder));
            }
        };
    }
    match shards.iter().find_map(|(shard, rest)| rest.keys().next().map(|tensor| (shard, tensor))) {
        Some((shard, tensor)) => Err(refused(shard, format!("holds {tensor}, which the index does not list for it"))),
        None => Ok(entries),
    }
}

/// The error for a tensor that its shard does not hold; the one that does is named, if there is one.
fn missing(path: &Path, tensor: &str, listed: &str, holder: Option<&str>) -> Error {
    let elsewhere = holder.map_or_else(String::new, |holder| format!("; \"{}\" does", shown(holder)));
    let reason = format!("does not hold {}{elsewhere}", shown(tensor));
    Error::Shard { path: path.to_path_buf(), shard: shown(listed), reason }
}

/// A name as it may be printed: short and on one line.
fn shown(name: &str) -> String {
    const LENGTH: usize = 128;
    let mut short: String = name.chars().take(LENGTH).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.chars().nth(LENGTH).is_some() {
        short.push('…');
    }
    short
}

/// A shard's path, if it is a plain file name of `dir` and no link that leads out of where models are kept.
fn contained(dir: &Path, shard: &str) -> Result<PathBuf, String> {
    let mut parts = Path::new(shard).components();
    let is_plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if !is_plain || shard.contains(['/', '\\', '\0']) {
        return Err("is not a plain file name inside the model directory".into());
    }
    let path = dir.join(shard);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_symlink() && !stays(dir, &path) => {
            Err("is a link that leads out of the model directory".into())
        }
        _ => Ok(path),
    }
}

/// Whether a link ends in its own folder, or as the links of the Hugging Face hub's cache do:
/// `models--x/snapshots/REVISION/model.safetensors` → `models--x/blobs/HASH`.
fn stays(dir: &Path, link: &Path) -> bool {
    let (Ok(folder), Ok(target)) = (dir.canonicalize(), link.canonicalize()) else { return false };
    if target.starts_with(&folder) {
        return true;
    }
    let repository = folder.parent().filter(|parent| parent.ends_with("snapshots")).and_then(Path::parent);
    repository.is_some_and(|repository| target.starts_with(repository.join("blobs")))
}

/// What is read of an index; sizes and other metadata are not.
#[derive(Deserialize)]
struct Index {
    weight_map: WeightMap,
}

/// Tensor and shard, in the order of the file; a tensor is listed once.
struct WeightMap(Vec<(String, String)>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = WeightMap;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors and the shards that hold them")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut pairs: BTreeMap<String, String> = BTreeMap::new();
                while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
                    if pairs.contains_key(&tensor) {
                        return Err(A::Error::custom(format!("tensor {} is listed twice", shown(&tensor))));
                    }
                    pairs.insert(tensor, shard);
                }
                Ok(WeightMap(pairs.into_iter().collect()))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
