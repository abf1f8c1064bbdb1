//! Malformed safetensors files: one builder each, and the words the refusal must hold.

/// A file that must be refused.
pub struct Attack {
    pub name: &'static str,
    pub build: fn() -> Vec<u8>,
    /// In the message, beside the name of the file.
    pub words: &'static [&'static str],
}

const fn attack(name: &'static str, build: fn() -> Vec<u8>, words: &'static [&'static str]) -> Attack {
    Attack { name, build, words }
}

/// A header with its length before it, and `data` zero bytes behind it.
pub fn file(header: &str, data: usize) -> Vec<u8> {
    prefixed(header.len() as u64, header.as_bytes(), data)
}

fn prefixed(length: u64, header: &[u8], data: usize) -> Vec<u8> {
    [&length.to_le_bytes()[..], header, &vec![0; data]].concat()
}

/// One tensor `w` of F32.
fn one(shape: &str, offsets: &str, data: usize) -> Vec<u8> {
    file(&format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#), data)
}

/// `n` tensors without elements.
fn empty_tensors(n: usize) -> String {
    let tensor = |i: usize| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    format!("{{{}}}", (0..n).map(tensor).collect::<Vec<_>>().join(","))
}

/// Each refused for its own reason.
pub const ATTACKS: &[Attack] = &[
    attack("no bytes", Vec::new, &["0 bytes are too few"]),
    attack("seven bytes", || vec![1; 7], &["7 bytes are too few"]),
    attack("a header of 2^64 - 1 bytes", || prefixed(u64::MAX, b"{}", 0), &["it says its header has"]),
    attack("a header of 2^63 bytes", || prefixed(1 << 63, b"{}", 0), &["it says its header has"]),
    attack("a header of 100 GB, nothing behind it", || prefixed(100_000_000_000, b"", 0), &["100000000000 bytes"]),
    attack("a header at the limit, nothing behind it", || prefixed(100_000_000, b"", 0), &["the file has 8"]),
    attack("a header one byte longer than the file", || prefixed(3, b"{}", 0), &["it says its header has 3"]),
    attack("an empty header", || prefixed(0, b"", 0), &["EOF"]),
    attack("a header that is not UTF-8", || prefixed(4, b"{\"\xff\xfe", 0), &["not UTF-8"]),
    attack("a header that is not JSON", || file("not json", 0), &["its header"]),
    attack("a header that is a list", || file("[]", 0), &["an object of tensors"]),
    attack("a header that is a number", || file("1", 0), &["an object of tensors"]),
    attack("text behind the header's object", || file("{} {}", 0), &["trailing characters"]),
    attack("a header nested 100,000 deep", || file(&format!("{{\"w\":{}", "[".repeat(100_000)), 0), &["its header"]),
    attack("a tensor that is a number", || file(r#"{"w":1}"#, 0), &["tensor w"]),
    attack("a tensor without a dtype", || file(r#"{"w":{"shape":[1],"data_offsets":[0,4]}}"#, 4), &["w", "dtype"]),
    attack("a tensor without a shape", || file(r#"{"w":{"dtype":"F32","data_offsets":[0,4]}}"#, 4), &["w", "shape"]),
    attack("a tensor without offsets", || file(r#"{"w":{"dtype":"F32","shape":[1]}}"#, 4), &["w", "data_offsets"]),
    attack(
        "an unknown dtype",
        || file(r#"{"w":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#, 4),
        &["tensor w", "F31"],
    ),
    attack(
        "an unknown key",
        || file(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#, 4),
        &["tensor w", "x"],
    ),
    attack("a negative size", || one("[-1]", "[0,4]", 4), &["tensor w"]),
    attack("a size that is a fraction", || one("[1.5]", "[0,4]", 4), &["tensor w"]),
    attack("a size of 2^64", || one("[18446744073709551616]", "[0,4]", 4), &["tensor w"]),
    attack("a shape whose product overflows", || one("[4294967296,4294967296]", "[0,4]", 4), &["w", "impossible"]),
    attack("a shape whose bits overflow", || one("[2305843009213693952]", "[0,4]", 4), &["w", "impossible"]),
    attack("a shape of 40 million dimensions", many_dimensions, &["tensor w", "dimensions"]),
    attack("a shape that is a number", || one("4", "[0,16]", 16), &["tensor w"]),
    attack("one offset", || one("[1]", "[0]", 4), &["tensor w"]),
    attack("three offsets", || one("[1]", "[0,4,8]", 4), &["tensor w"]),
    attack("a negative offset", || one("[1]", "[-4,0]", 4), &["tensor w"]),
    attack("offsets in reverse", || one("[1]", "[4,0]", 4), &["tensor w", "4..0"]),
    attack("offsets beyond the file", || one("[2]", "[0,8]", 4), &["tensor w", "0..8 of 4"]),
    attack(
        "offsets near 2^64",
        || one("[1]", "[18446744073709551612,18446744073709551615]", 4),
        &["tensor w", "of 4 bytes"],
    ),
    attack("a first tensor that does not start at 0", || one("[1]", "[4,8]", 8), &["tensor w", "gap"]),
    attack("fewer bytes than the shape needs", || one("[2]", "[0,4]", 4), &["tensor w has 4 bytes", "needs 8"]),
    attack("more bytes than the shape needs", || one("[1]", "[0,8]", 8), &["tensor w has 8 bytes", "needs 4"]),
    attack("half a byte", half_byte, &["tensor w", "impossible"]),
    attack("tensors that overlap", || two("[0,8]", "[4,12]", 12), &["tensor b", "overlaps"]),
    attack("tensors on the same bytes", || two("[0,8]", "[0,8]", 8), &["overlaps"]),
    attack("a gap between tensors", || two("[0,8]", "[12,20]", 20), &["tensor b", "gap"]),
    attack("bytes behind the last tensor", || one("[1]", "[0,4]", 5), &["end at byte", "the file at"]),
    attack("a file cut in its last tensor", || one("[2]", "[0,8]", 7), &["tensor w", "of 7 bytes"]),
    attack("the same name twice, on other bytes", || twice("[0,4]", "[4,8]", 8), &["tensor w is there twice"]),
    attack("the same name twice, without bytes", twice_empty, &["tensor w is there twice"]),
    attack("metadata that is not text", || file(r#"{"__metadata__":{"a":1}}"#, 0), &["its header"]),
    attack("metadata that is a list", || file(r#"{"__metadata__":[]}"#, 0), &["__metadata__"]),
    attack("a name of 100,000 bytes", long_name, &["name is longer than"]),
    attack("200,000 tensors", || file(&empty_tensors(200_000), 0), &["more than 131072 tensors"]),
];

fn many_dimensions() -> Vec<u8> {
    one(&format!("[{}1]", "1,".repeat(40_000_000)), "[0,4]", 4)
}

fn half_byte() -> Vec<u8> {
    file(r#"{"w":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#, 1)
}

fn two(a: &str, b: &str, data: usize) -> Vec<u8> {
    let tensor = |name: &str, at: &str| format!(r#""{name}":{{"dtype":"F32","shape":[2],"data_offsets":{at}}}"#);
    file(&format!("{{{},{}}}", tensor("a", a), tensor("b", b)), data)
}

fn twice(a: &str, b: &str, data: usize) -> Vec<u8> {
    let tensor = |at: &str| format!(r#""w":{{"dtype":"F32","shape":[1],"data_offsets":{at}}}"#);
    file(&format!("{{{},{}}}", tensor(a), tensor(b)), data)
}

fn twice_empty() -> Vec<u8> {
    let tensor = r#""w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#;
    file(&format!("{{{tensor},{tensor}}}"), 0)
}

fn long_name() -> Vec<u8> {
    let name = "n".repeat(100_000);
    file(&format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#), 4)
}
