//! The header of a file, checked.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::reader::Reader;
use super::{Gguf, Kind, MAGIC, Tensor, Texts, Value};
use crate::Error;

/// Most key-value pairs; published files have some dozens.
const MAX_PAIRS: u64 = 1 << 16;
/// Most tensors, as of safetensors.
const MAX_TENSORS: u64 = 1 << 17;
/// What all lists may hold together: vocabularies have a quarter of a million texts, with a score and a type each.
const LISTS: Room = Room { numbers: 1 << 22, texts: 1 << 22, text: 64 << 20 };
/// Longest name of a key or a tensor, in bytes.
const MAX_NAME: u64 = 512;
/// Most dimensions of a tensor: the format's own limit.
const MAX_DIMENSIONS: u32 = 4;
/// Tensors begin at multiples of this, unless `general.alignment` says otherwise.
const ALIGNMENT: u64 = 32;

/// How much more lists may hold.
struct Room {
    numbers: u64,
    texts: u64,
    /// Bytes of all texts.
    text: u64,
}

/// Reads the header at the beginning of `input`, a file of `size` bytes.
pub(super) fn read(path: &Path, input: impl Read, size: u64) -> Result<Gguf, Error> {
    let reason = |reason: String| Error::Gguf { path: path.to_path_buf(), reason };
    let mut reader = Reader::new(input, size);
    let version = version(&mut reader).map_err(reason)?;
    let (tensors, metadata) = body(&mut reader).map_err(reason)?;
    let align = alignment(&metadata).map_err(reason)?;
    let data = reader.at.next_multiple_of(align);
    let tensors = laid_out(tensors, data, align, size).map_err(reason)?;
    Ok(Gguf { path: path.to_path_buf(), version, metadata, tensors })
}

fn version(reader: &mut Reader<impl Read>) -> Result<u32, String> {
    match reader.bytes::<4>() {
        Ok(magic) if magic == *MAGIC => {}
        _ => return Err("it does not begin with \"GGUF\"".into()),
    }
    match reader.u32()? {
        version @ 2..=3 => Ok(version),
        version if version.swap_bytes() <= 3 => Err("it is big-endian; little-endian files are read".into()),
        version => Err(format!("version {version} is not read; 2 and 3 are")),
    }
}

type Body = (Vec<(String, Declared)>, BTreeMap<String, Value>);

fn body(reader: &mut Reader<impl Read>) -> Result<Body, String> {
    // A tensor takes 24 bytes at least, a pair 13.
    let tensors = reader.count("tensors", 24, MAX_TENSORS)?;
    let pairs = reader.count("key-value pairs", 13, MAX_PAIRS)?;
    let (mut metadata, mut room) = (BTreeMap::new(), LISTS);
    for _ in 0..pairs {
        let key = reader.text(MAX_NAME)?;
        let value = value(reader, &mut room).map_err(|reason| format!("{}: {reason}", shown(&key)))?;
        if metadata.contains_key(&key) {
            return Err(format!("the key {} is there twice", shown(&key)));
        }
        metadata.insert(key, value);
    }
    let tensors = (0..tensors).map(|_| declared(reader)).collect::<Result<_, _>>()?;
    Ok((tensors, metadata))
}

/// A name as it may be printed.
fn shown(name: &str) -> String {
    name.chars().take(128).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The types of values, as they are numbered.
fn value(reader: &mut Reader<impl Read>, room: &mut Room) -> Result<Value, String> {
    Ok(match reader.u32()? {
        6 => Value::Float(decimal(f32::from_le_bytes(reader.bytes()?))),
        12 => Value::Float(f64::from_le_bytes(reader.bytes()?)),
        7 => Value::Bool(reader.bytes::<1>()? != [0]),
        8 => Value::Text(reader.long_text()?),
        9 => list(reader, room)?,
        kind => Value::Integer(integer(reader, kind)?),
    })
}

/// The number that the shortest decimal of an f32 names.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

fn integer(reader: &mut Reader<impl Read>, kind: u32) -> Result<i64, String> {
    Ok(match kind {
        0 => reader.bytes::<1>()?[0].into(),
        1 => i8::from_le_bytes(reader.bytes()?).into(),
        2 => u16::from_le_bytes(reader.bytes()?).into(),
        3 => i16::from_le_bytes(reader.bytes()?).into(),
        4 => reader.u32()?.into(),
        5 => i32::from_le_bytes(reader.bytes()?).into(),
        10 => i64::try_from(reader.u64()?).map_err(|_| "it is beyond 2^63".to_owned())?,
        11 => i64::from_le_bytes(reader.bytes()?),
        other => return Err(format!("its type {other} is none of the format's")),
    })
}

/// Bytes of a value of this type; of a text, at least.
fn width(kind: u32) -> u64 {
    match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        _ => 8,
    }
}

fn list(reader: &mut Reader<impl Read>, room: &mut Room) -> Result<Value, String> {
    let kind = reader.u32()?;
    if kind == 8 {
        return texts(reader, room).map(Value::Texts);
    }
    let count = reader.count("values", width(kind), room.numbers)?;
    room.numbers -= count as u64;
    let floats = |read: &mut dyn FnMut() -> Result<f64, String>| (0..count).map(|_| read()).collect::<Result<_, _>>();
    Ok(match kind {
        6 => Value::Floats(floats(&mut || Ok(f32::from_le_bytes(reader.bytes()?).into()))?),
        12 => Value::Floats(floats(&mut || Ok(f64::from_le_bytes(reader.bytes()?)))?),
        9 => return Err("it is a list of lists, which is not read".into()),
        7 => Value::Integers(
            (0..count).map(|_| integer(reader, 0).map(|flag| (flag != 0).into())).collect::<Result<_, _>>()?,
        ),
        kind => Value::Integers((0..count).map(|_| integer(reader, kind)).collect::<Result<_, _>>()?),
    })
}

fn texts(reader: &mut Reader<impl Read>, room: &mut Room) -> Result<Texts, String> {
    let count = reader.count("texts", 8, room.texts)?;
    room.texts -= count as u64;
    let mut texts = Texts::default();
    for _ in 0..count {
        let text = reader.text(room.text)?;
        room.text -= text.len() as u64;
        texts.push(&text);
    }
    Ok(texts)
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, String> {
    match metadata.get("general.alignment") {
        None => Ok(ALIGNMENT),
        Some(Value::Integer(align)) if (1..=1 << 20).contains(align) && align.count_ones() == 1 => Ok(*align as u64),
        Some(_) => Err("general.alignment must be a power of two, at most 2^20".into()),
    }
}

/// A tensor as the header tells of it; the offset is counted from the beginning of the data.
struct Declared {
    kind: Kind,
    shape: Vec<usize>,
    offset: u64,
    length: u64,
}

fn declared(reader: &mut Reader<impl Read>) -> Result<(String, Declared), String> {
    let name = reader.text(MAX_NAME)?;
    let about = |reason: String| format!("tensor {} {reason}", shown(&name));
    let dimensions = reader.u32()?;
    if dimensions > MAX_DIMENSIONS {
        return Err(about(format!("has {dimensions} dimensions; {MAX_DIMENSIONS} at most are read")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(usize::try_from(reader.u64()?).map_err(|_| about("is too large".into()))?);
    }
    let kind = Kind::of(reader.u32()?).map_err(about)?;
    let offset = reader.u64()?;
    let length = bytes(kind, &shape).ok_or_else(|| {
        about(format!("has the shape {shape:?} (fastest first), which is impossible in {}", kind.name()))
    })?;
    shape.reverse();
    Ok((name, Declared { kind, shape, offset, length }))
}

/// What a shape (fastest dimension first) needs: rows are whole blocks. `None` where it does not fit.
fn bytes(kind: Kind, shape: &[usize]) -> Option<u64> {
    let (values, size) = kind.block();
    if !shape.first().unwrap_or(&1).is_multiple_of(values) {
        return None;
    }
    // Also of a tensor without elements the sizes can be multiplied.
    shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size.max(1)))?;
    let elements = shape.iter().map(|&size| size as u64).product::<u64>();
    (elements / values as u64).checked_mul(size as u64)
}

/// Checks that tensors follow each other from `data` on, each at the next multiple of `align`, and end inside the file.
fn laid_out(
    mut declared: Vec<(String, Declared)>,
    data: u64,
    align: u64,
    size: u64,
) -> Result<BTreeMap<String, Tensor>, String> {
    declared.sort_by_key(|(_, tensor)| (tensor.offset, tensor.length));
    let (mut tensors, mut expected) = (BTreeMap::new(), 0_u64);
    for (name, Declared { kind, shape, offset, length }) in declared {
        let about = |reason: String| format!("tensor {} {reason}", shown(&name));
        if offset != expected {
            return Err(about(format!("lies at {offset} of the data, where {expected} is the next place")));
        }
        let end = data.checked_add(offset).and_then(|start| start.checked_add(length));
        let end = end.filter(|end| *end <= size).ok_or_else(|| {
            about(format!("has {length} bytes from {offset} of the data on, beyond the end of the file ({size} bytes); is the download complete?"))
        })?;
        expected = (offset + length).next_multiple_of(align);
        let tensor = Tensor { kind, shape, start: end - length, length: length as usize };
        if tensors.contains_key(&name) {
            return Err(about("is there twice".into()));
        }
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}
