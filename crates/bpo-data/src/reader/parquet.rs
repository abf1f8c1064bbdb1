//! Rows of Parquet files, one at a time; a row group is never held whole.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::{Field, Row as Record};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use super::{Keep, Row, Source};
use crate::Error;

/// Deepest nesting of columns: messages with parts need eight.
const MAX_DEPTH: usize = 32;
/// Most columns, groups included. The parquet crate goes down nested groups by recursion, and ends the process where
/// the stack does: the number bounds the depth before it looks.
const MAX_COLUMNS: u64 = 1024;
const MAGIC: &[u8] = b"PAR1";

/// Rows of a file, numbered from 1.
pub(super) fn each_row<E: From<Error>>(source: &Source, file: File, keep: &mut Keep<'_, E>) -> Result<(), E> {
    each(source, file, keep)
}

/// Rows of a file in memory, numbered from 1.
pub(super) fn each_row_of<E: From<Error>>(source: &Source, bytes: &[u8], keep: &mut Keep<'_, E>) -> Result<(), E> {
    each(source, bytes::Bytes::copy_from_slice(bytes), keep)
}

fn each<R: ChunkReader + 'static, E: From<Error>>(source: &Source, file: R, keep: &mut Keep<'_, E>) -> Result<(), E> {
    let damaged = |line: usize, reason: String| source.row(line, format!("damaged Parquet: {reason}"));
    check_footer(&file).map_err(|reason| damaged(1, reason))?;
    let reader = guarded(|| SerializedFileReader::new(file)).map_err(|reason| damaged(1, reason))?;
    check(reader.metadata()).map_err(|reason| damaged(1, reason))?;
    check_codecs(reader.metadata()).map_err(|reason| source.row(1, reason))?;
    let mut records = guarded(|| reader.get_row_iter(None)).map_err(|reason| damaged(1, reason))?;
    let mut line = 0;
    loop {
        line += 1;
        match guarded(|| records.next().transpose()).map_err(|reason| damaged(line, reason))? {
            Some(record) => keep(Ok(Row { line, value: Value::Object(object(&record)) }))?,
            None if line == 1 => return Err(source.no_rows().into()),
            None => return Ok(()),
        }
    }
}

/// Refuses a footer that is not in the file or has too many columns.
fn check_footer<R: ChunkReader>(file: &R) -> Result<(), String> {
    let read = |start: u64, length: u64| guarded(|| file.get_bytes(start, length as usize));
    let size = file.len();
    let tail = size.checked_sub(8).filter(|start| *start >= 4).ok_or("it ends too early")?;
    let end = read(tail, 8)?;
    let (Some(length), true) = (end.first_chunk(), end.ends_with(MAGIC)) else {
        return Err("it does not end as Parquet does".to_owned());
    };
    let length = u64::from(u32::from_le_bytes(*length));
    let start = tail.checked_sub(length).filter(|start| *start >= 4);
    let start = start.ok_or_else(|| format!("it says its footer has {length} bytes; the file has {size}"))?;
    let columns = columns(&read(start, length.min(32))?).ok_or("its footer does not begin with a schema")?;
    if columns > MAX_COLUMNS {
        return Err(format!("it has {columns} columns; at most {MAX_COLUMNS} are read"));
    }
    Ok(())
}

/// The number of schema elements in a footer: in Thrift's compact protocol, field 1 (the version), then the length of
/// field 2 (the schema), as every writer puts them.
fn columns(footer: &[u8]) -> Option<u64> {
    const VERSION: u8 = 0x15;
    const SCHEMA: u8 = 0x19;
    const STRUCT: u8 = 12;
    let rest = footer.strip_prefix(&[VERSION])?;
    let (_, rest) = varint(rest)?;
    let (&head, rest) = rest.strip_prefix(&[SCHEMA])?.split_first()?;
    match (head & 15, head >> 4) {
        (STRUCT, 15) => varint(rest).map(|(columns, _)| columns),
        (STRUCT, columns) => Some(u64::from(columns)),
        _ => None,
    }
}

/// A number of seven bits a byte, and what is behind it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = bytes.iter().take(9).position(|byte| byte & 128 == 0)? + 1;
    let (number, rest) = bytes.split_at(length);
    Some((number.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 127)), rest))
}

/// Refuses sizes that no row group has, before anything of them is read.
fn check(metadata: &ParquetMetaData) -> Result<(), String> {
    if depth(metadata.file_metadata().schema()) > MAX_DEPTH {
        return Err(format!("its columns are nested more than {MAX_DEPTH} deep"));
    }
    let sizes = |group: &RowGroupMetaData| {
        group.num_rows() >= 0 && group.columns().iter().all(|column| column.uncompressed_size() >= 0)
    };
    if metadata.row_groups().iter().all(sizes) { Ok(()) } else { Err("a size is negative".to_owned()) }
}

/// Refuses a sound file in a compression that is not read.
fn check_codecs(metadata: &ParquetMetaData) -> Result<(), String> {
    let columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let unread = |codec: &Compression| matches!(codec, Compression::BROTLI(_) | Compression::LZO);
    match columns.map(ColumnChunkMetaData::compression).find(unread) {
        Some(codec) => {
            let name = codec.to_string().to_lowercase();
            let name = name.split('(').next().unwrap_or_default();
            Err(format!("Parquet compressed with {name}, which is not read: write it with zstd, snappy, gzip or lz4"))
        }
        None => Ok(()),
    }
}

fn depth(column: &Type) -> usize {
    1 + if column.is_group() { column.get_fields().iter().map(|part| depth(part)).max().unwrap_or(0) } else { 0 }
}

/// An error of the parquet crate without what it quotes of a row.
fn told(error: &ParquetError) -> String {
    const QUOTED: &str = "Bytes: [";
    let whole = error.to_string();
    let told = whole.split(QUOTED).next().unwrap_or_default().trim_end();
    told.chars().take(300).collect()
}

/// Runs `work` of the parquet crate, which may panic on crafted files.
fn guarded<T>(work: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| told(&error)),
        Err(_) => Err("the parquet library panicked on this file".to_owned()),
    }
}

fn object(record: &Record) -> Map<String, Value> {
    record.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

/// A field in JSON; dates and the like are the numbers they are stored as, bytes are text or null.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) | Field::Date(value) | Field::TimeMillis(value) => (*value).into(),
        Field::Long(value)
        | Field::TimeMicros(value)
        | Field::TimestampMillis(value)
        | Field::TimestampMicros(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float16(value) => number(f64::from(value.to_f32())),
        Field::Float(value) => number(f64::from(*value)),
        Field::Double(value) => number(*value),
        Field::Str(text) => text.clone().into(),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, Into::into),
        Field::Decimal(_) => field.to_string().into(),
        Field::Group(record) => Value::Object(object(record)),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            let name = |key: &Field| match key {
                Field::Str(text) => text.clone(),
                other => other.to_string(),
            };
            Value::Object(map.entries().iter().map(|(key, field)| (name(key), value(field))).collect())
        }
    }
}

fn number(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{read_json_rows, read_preferences, read_preferences_from};

    /// A file of `prompt`, `chosen`, `rejected` and a `score`, in row groups of `group` rows.
    fn pairs(rows: &[[&str; 3]], group: usize, compression: Compression) -> Vec<u8> {
        let schema = "message m { required binary prompt (UTF8); required binary chosen (UTF8);
            required binary rejected (UTF8); optional double score; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
        for rows in rows.chunks(group) {
            let mut group = writer.next_row_group().unwrap();
            for column in 0..3 {
                let texts: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(row[column])).collect();
                let mut writer = group.next_column().unwrap().unwrap();
                writer.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
                writer.close().unwrap();
            }
            let mut scores = group.next_column().unwrap().unwrap();
            let levels: Vec<i16> = (0..rows.len()).map(|row| i16::from(row % 2 == 0)).collect();
            let values = vec![0.5; levels.iter().filter(|level| **level == 1).count()];
            scores.typed::<DoubleType>().write_batch(&values, Some(&levels), None).unwrap();
            scores.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
        bytes
    }

    const ROWS: [[&str; 3]; 3] = [["q", "a", "b"], ["é", "c", "d"], ["r", "e", "e"]];

    #[test]
    fn every_codec_and_row_group_gives_the_rows_with_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pairs.parquet");
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::ZSTD(Default::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
        ] {
            std::fs::write(&path, pairs(&ROWS, 2, compression)).unwrap();
            let rows = read_json_rows(&path).unwrap();
            assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 2, 3]);
            assert_eq!(rows[0].value, json!({"prompt": "q", "chosen": "a", "rejected": "b", "score": 0.5}));
            assert_eq!(rows[1].value["score"], Value::Null);
            let read = read_preferences(&path).unwrap();
            assert_eq!((read.rows.len(), read.rows[1].prompt.text()), (2, "é".to_owned()));
            assert_eq!(read, read_preferences_from("memory", &std::fs::read(&path).unwrap()).unwrap());
        }
    }

    #[test]
    fn a_text_that_is_none_is_refused_without_its_bytes() {
        let mut bytes = pairs(&[["q", "SECRET", "b"]], 1, Compression::UNCOMPRESSED);
        let at = bytes.windows(6).position(|window| window == b"SECRET").unwrap();
        bytes[at + 5] = 0xff;
        let message = read_preferences_from("f", &bytes).unwrap_err().to_string();
        assert!(message.starts_with("f:1: damaged Parquet: ") && !message.contains("83"), "{message}");
    }

    /// Written by pyarrow (`tests/messages.py`).
    const MESSAGES: &[u8] = include_bytes!("../../tests/messages.parquet");

    #[test]
    fn lists_of_messages_as_pyarrow_writes_them_are_pairs() {
        let rows = super::super::read_json_rows_from("f", MESSAGES).unwrap();
        assert_eq!(rows[1].value["score"], Value::Null);
        assert_eq!(rows[2].value["id"], 3);
        let read = read_preferences_from("f", MESSAGES).unwrap();
        assert_eq!((read.rows.len(), read.rows[0].prompt.text()), (3, "q".to_owned()));
        assert_eq!((read.rows[2].chosen.as_str(), read.rows[2].rejected.as_str()), ("a", "b"));
    }

    #[test]
    fn a_file_without_the_columns_lists_those_it_has() {
        let schema = "message m { required binary question (UTF8); optional group parts { required double x; } }";
        let mut bytes = Vec::new();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[ByteArray::from("SECRET")], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&[1.0], Some(&[1]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        assert_eq!(super::super::read_json_rows_from("f", &bytes).unwrap()[0].value["parts"], json!({"x": 1.0}));
        let message = read_preferences_from("f.parquet", &bytes).unwrap_err().to_string();
        assert!(message.starts_with("f.parquet:1: unknown schema: the row has [question, parts]"), "{message}");
        assert!(!message.contains("SECRET"));
    }

    #[test]
    fn an_empty_file_and_damaged_ones_are_typed_errors() {
        let none = read_preferences_from("f", &pairs(&[], 1, Compression::SNAPPY)).unwrap_err();
        assert!(matches!(none, Error::NoRows { .. }), "{none}");
        let whole = pairs(&ROWS, 3, Compression::SNAPPY);
        for keep in [4, 8, 12, whole.len() / 2, whole.len() - 1] {
            let message = read_preferences_from("f", &whole[..keep]).unwrap_err().to_string();
            assert!(message.starts_with("f:1: damaged Parquet: ") && message.len() < 500, "{message}");
        }
    }

    #[test]
    fn columns_nested_as_deep_as_they_may_be_many_are_refused_without_exhausting_a_thread_s_stack() {
        for depth in [40, MAX_COLUMNS as usize, MAX_COLUMNS as usize + 1, 100_000] {
            let mut thrift = vec![0x15, 2, 0x19, 0xfc];
            let mut rest = depth;
            while rest > 127 {
                thrift.push(rest as u8 | 128);
                rest >>= 7;
            }
            thrift.push(rest as u8);
            for level in 1..=depth {
                let group: &[u8] = &[0x35, 0, 0x18, 1, b'a', 0x15, 2, 0];
                let leaf: &[u8] = &[0x15, 2, 0x25, 0, 0x18, 1, b'a', 0];
                thrift.extend(if level < depth { group } else { leaf });
            }
            thrift.extend([0x16, 0, 0x19, 0x0c, 0]);
            let file = [MAGIC, &thrift, &(thrift.len() as u32).to_le_bytes(), MAGIC].concat();
            let message = read_preferences_from("f", &file).unwrap_err().to_string();
            let word = if depth > MAX_COLUMNS as usize { "columns; at most 1024" } else { "nested more than 32 deep" };
            assert!(message.contains(word), "{depth}: {message}");
        }
    }

    #[test]
    fn numbers_of_seven_bits_a_byte_are_read() {
        assert_eq!(varint(&[0xac, 2, 7]), Some((300, &[7][..])));
        assert_eq!(varint(&[128; 20]), None);
        assert_eq!(columns(&[0x15, 2, 0x19, 0x5c]), Some(5));
        assert_eq!(columns(&[0x15, 2, 0x19, 0x5a]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_changed_file_gives_rows_or_a_typed_error(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            thread_local!(static WHOLE: Vec<u8> = pairs(&ROWS, 2, Compression::SNAPPY));
            let mut bytes = WHOLE.with(Clone::clone);
            for (at, to) in changes {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            if let Err(error) = read_preferences_from("f", &bytes) {
                prop_assert!(error.to_string().starts_with('f'));
            }
        }
    }
}
