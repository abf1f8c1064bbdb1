//! The header of one file, checked.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::{Entries, Entry};
use crate::{Error, whole};

/// Bytes of the number that says how long the header is.
const PREFIX: u64 = 8;
/// Longest header that is read, in bytes: the format's own limit.
const MAX_HEADER: u64 = 100_000_000;
/// Most tensors of a model; the largest published ones have some tens of thousands.
pub(super) const MAX_TENSORS: usize = 1 << 17;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;
/// Longest name of a tensor, in bytes.
const MAX_NAME: usize = 512;

pub(super) fn read_header(path: &Path) -> Result<Entries, Error> {
    let mut file = whole::open_regular(path)?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let mut prefix = [0; PREFIX as usize];
    let read = file.read(&mut prefix).map_err(Error::io(path))?;
    let header = length(path, &prefix[..read], size)?;
    // At most as long as the file: no header makes this larger than what is on disk.
    let mut bytes = vec![0; (PREFIX + header) as usize];
    bytes[..PREFIX as usize].copy_from_slice(&prefix);
    file.read_exact(&mut bytes[PREFIX as usize..]).map_err(Error::io(path))?;
    spans(path, &bytes, size)
}

/// The tensors that the first bytes of a file of `size` bytes tell of.
pub(super) fn spans(path: &Path, bytes: &[u8], size: u64) -> Result<Entries, Error> {
    let header = length(path, bytes, size)?;
    let data = PREFIX + header;
    let json = bytes.get(PREFIX as usize..data as usize).unwrap_or_default();
    let damaged = |reason: String| Error::Safetensors { path: path.to_path_buf(), reason };
    let text = std::str::from_utf8(json).map_err(|_| damaged("its header is not UTF-8".into()))?;
    let Tensors(tensors) = serde_json::from_str(text).map_err(|e| damaged(format!("its header: {e}")))?;
    let end = laid_out(&tensors, size - data).map_err(damaged)?;
    if data + end != size {
        return Err(damaged(format!("its tensors end at byte {}, the file at {size}", data + end)));
    }
    let file: Arc<Path> = path.into();
    let entry = |(name, tensor): (String, Tensor)| {
        let Tensor { dtype, shape, data_offsets: (start, end) } = tensor;
        (name, Entry { file: file.clone(), dtype, shape: shape.0, start: data + start, length: (end - start) as usize })
    };
    Ok(tensors.into_iter().map(entry).collect())
}

/// The length of the header, by the first eight bytes of a file of `size` bytes.
fn length(path: &Path, bytes: &[u8], size: u64) -> Result<u64, Error> {
    let damaged = |reason: String| Err(Error::Safetensors { path: path.to_path_buf(), reason });
    let Some(prefix) = bytes.first_chunk() else {
        return damaged(format!("{size} bytes are too few"));
    };
    let length = u64::from_le_bytes(*prefix);
    if length > MAX_HEADER || length > size.saturating_sub(PREFIX) {
        return damaged(format!("it says its header has {length} bytes; the file has {size}"));
    }
    Ok(length)
}

/// Checks that tensors follow each other without gap or overlap, and that each is as long as its shape says;
/// returns where the last one ends. `room` is what the file has for them.
fn laid_out(tensors: &[(String, Tensor)], room: u64) -> Result<u64, String> {
    let mut order: Vec<&(String, Tensor)> = tensors.iter().collect();
    order.sort_unstable_by_key(|(_, tensor)| tensor.data_offsets);
    let mut at = 0;
    for (name, tensor) in order {
        let (start, end) = tensor.data_offsets;
        if end < start || end > room {
            return Err(format!("tensor {name} says it lies at {start}..{end} of {room} bytes"));
        }
        if start != at {
            let how = if start < at { "overlaps the one before it" } else { "leaves a gap before it" };
            return Err(format!("tensor {name} at {start}..{end} {how}, which ends at {at}"));
        }
        match tensor.bytes() {
            Some(bytes) if bytes == end - start => at = end,
            Some(bytes) => return Err(format!("tensor {name} has {} bytes; its shape needs {bytes}", end - start)),
            None => return Err(format!("tensor {name} has the impossible shape {:?}", tensor.shape.0)),
        }
    }
    twice(tensors).map_or(Ok(at), |name| Err(format!("tensor {name} is there twice")))
}

/// A name that two tensors have.
fn twice(tensors: &[(String, Tensor)]) -> Option<&str> {
    let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).find(|two| two[0] == two[1]).map(|two| two[0])
}

/// The header as it stands: every tensor in its order, those of the same name too.
struct Tensors(Vec<(String, Tensor)>);

/// One entry of the header.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (u64, u64),
}

impl Tensor {
    /// What the shape needs; `None` where that is no whole number of bytes or does not fit.
    fn bytes(&self) -> Option<u64> {
        let elements = self.shape.0.iter().try_fold(1_u64, |n, &size| n.checked_mul(size as u64))?;
        let bits = elements.checked_mul(self.dtype.bitsize() as u64)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

/// A shape of few dimensions: `[1,1,1,…]` is eight times as long in memory as in a file.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;
        impl<'de> Visitor<'de> for Sizes {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sizes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut sizes = Vec::new();
                while let Some(size) = list.next_element()? {
                    if sizes.len() == MAX_DIMENSIONS {
                        return Err(A::Error::custom(format!("a shape of more than {MAX_DIMENSIONS} dimensions")));
                    }
                    sizes.push(size);
                }
                Ok(Shape(sizes))
            }
        }
        deserializer.deserialize_seq(Sizes)
    }
}

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Tensors;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<Texts>()?;
                        continue;
                    }
                    if tensors.len() == MAX_TENSORS {
                        return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
                    }
                    if name.len() > MAX_NAME {
                        return Err(A::Error::custom(format!("a tensor's name is longer than {MAX_NAME} bytes")));
                    }
                    let tensor = map.next_value().map_err(|e| A::Error::custom(format!("tensor {name}: {e}")))?;
                    tensors.push((name, tensor));
                }
                Ok(Tensors(tensors))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// `__metadata__`: texts by name, of no interest here; whatever they are, they are not kept.
struct Texts;

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Skip;
        impl<'de> Visitor<'de> for Skip {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts in __metadata__")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                while map.next_key::<Text>()?.is_some() {
                    map.next_value::<Text>()?;
                }
                Ok(Texts)
            }
        }
        deserializer.deserialize_map(Skip)
    }
}

/// A text that is looked at and dropped.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }
        deserializer.deserialize_str(Any)
    }
}
