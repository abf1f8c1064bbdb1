//! Data files that must stop at their line.
use std::io::Write;

/// Texts for a tokenizer.
pub const TEXTS: &str =
    "{\"text\":\"hello world\"}\n{\"text\":\"<s> é \u{1f600} </s>\"}\n{\"text\":\"aaaaaaaaaaaaaaaa\"}\n";
/// A conversation for a chat template.
pub const CHAT: &str = "{\"prompt\":[{\"role\":\"user\",\"content\":\"hello\"}]}\n";

pub struct Attack {
    pub name: &'static str,
    pub file: &'static str,
    pub content: Vec<u8>,
    /// Where it stops, or why.
    pub word: &'static str,
}

pub fn attacks() -> Vec<Attack> {
    let lines = |name, text: &str, word| Attack { name, file: "rows.jsonl", content: text.as_bytes().to_vec(), word };
    let other = |name, file, content, word| Attack { name, file, content, word };
    let nested = "[".repeat(100_000);
    vec![
        lines("nothing", "", "no rows"),
        lines("blank lines", "\n \r\n\u{feff}\n", "rows.jsonl"),
        lines("bad JSON", "{\"prompt\":\"a\"}\n{\"SECRET\": nope}\n", "rows.jsonl:2: bad JSON"),
        lines("a line cut off", "{\"prompt\":\"a\"}\n{\"prompt\":\"SECRET", "rows.jsonl:2: bad JSON"),
        lines("two objects on a line", "{\"prompt\":\"a\"} {\"prompt\":\"SECRET\"}", "rows.jsonl:1: bad JSON"),
        lines("a row that is text", "{\"prompt\":\"a\"}\n\"SECRET\"\n", "rows.jsonl:2: the row is a string"),
        lines("a row that is a list", "{\"prompt\":\"a\"}\n[\"SECRET\"]\n", "rows.jsonl:2: the row is a list"),
        lines("nesting of 100,000", &format!("{{}}\n{{\"SECRET\":{nested}"), "rows.jsonl:2: bad JSON"),
        lines("a number that is too large", "{\"prompt\":\"SECRET\",\"x\":1e999}", "rows.jsonl:1: bad JSON"),
        lines("half a surrogate", "{\"prompt\":\"SECRET\\ud800\"}", "rows.jsonl:1: bad JSON"),
        lines("a raw control character", "{\"prompt\":\"SECRET\u{1}\"}", "rows.jsonl:1: bad JSON"),
        lines(
            "a line of 17 MiB",
            &format!("{{}}\n{{\"a\":\"{}\"}}", "x".repeat(17 << 20)),
            "rows.jsonl:2: the row is longer",
        ),
        lines("an array without its end", "[{\"prompt\":\"SECRET\"},", "rows.jsonl:1: the array is not closed"),
        lines("text behind an array", "[{\"prompt\":\"a\"}]\nSECRET", "rows.jsonl:2: text after the end"),
        other("invalid UTF-8", "rows.jsonl", b"{}\n{\"SECRET\":\"\xff\"}".to_vec(), "rows.jsonl:2: invalid UTF-8"),
        other("gzip cut off", "rows.jsonl.gz", gzip(b"{\"prompt\":\"SECRET\"}\n{}\n", Some(20)), "rows.jsonl.gz"),
        other("gzip of 100 MiB in one line", "rows.jsonl.gz", gzip(&vec![b'x'; 100 << 20], None), "longer than 16 MiB"),
        other("Parquet without anything", "rows.parquet", b"PAR1".to_vec(), "damaged Parquet"),
        other("Parquet with a footer beyond the file", "rows.parquet", footer(u32::MAX, b""), "damaged Parquet"),
        other("Parquet with a footer of zeros", "rows.parquet", footer(64, &[0; 64]), "damaged Parquet"),
        other("Parquet with 50,000 nested columns", "rows.parquet", nested_columns(50_000), "damaged Parquet"),
    ]
}

fn gzip(bytes: &[u8], keep: Option<usize>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    let mut packed = encoder.finish().unwrap();
    packed.truncate(keep.unwrap_or(packed.len()));
    packed
}

/// A Parquet file of nothing but a footer.
fn footer(length: u32, thrift: &[u8]) -> Vec<u8> {
    [b"PAR1", thrift, &length.to_le_bytes(), b"PAR1"].concat()
}

/// A footer, in Thrift's compact protocol, whose schema is one group in another.
fn nested_columns(depth: usize) -> Vec<u8> {
    let varint = |mut n: usize| {
        let mut out = Vec::new();
        while n > 127 {
            out.push(n as u8 | 128);
            n >>= 7;
        }
        out.push(n as u8);
        out
    };
    // version 1 (field 1, i32); schema (field 2, list of structs).
    let mut thrift = vec![0x15, 0x02, 0x19, 0xfc];
    thrift.extend(varint(depth));
    for level in 0..depth {
        if level + 1 < depth {
            // repetition (3) required, name (4) "a", num_children (5) 1.
            thrift.extend([0x35, 0x00, 0x18, 0x01, b'a', 0x15, 0x02, 0x00]);
        } else {
            // type (1) int32, repetition (3), name (4).
            thrift.extend([0x15, 0x02, 0x25, 0x00, 0x18, 0x01, b'a', 0x00]);
        }
    }
    // num_rows (3) 0, row_groups (4) none.
    thrift.extend([0x16, 0x00, 0x19, 0x0c, 0x00]);
    footer(thrift.len() as u32, &thrift)
}
