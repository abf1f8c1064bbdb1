//! Events as protobuf. Numbers of fields are those of event.proto, summary.proto and tensor.proto of TensorFlow.

/// `brain.Event:2`: from this version on a restart is told by an event, not guessed from steps.
const VERSION: &[u8] = b"brain.Event:2";

/// The first event of a file.
pub(super) fn version(time: f64) -> Vec<u8> {
    let mut event = of(time, 0);
    bytes(&mut event, 3, VERSION);
    event
}

/// Events of `step` and later ones in earlier files are void: a session starts.
pub(super) fn restart(time: f64, step: u64) -> Vec<u8> {
    let mut event = of(time, step);
    let mut session = Vec::new();
    whole(&mut session, 1, 1);
    bytes(&mut event, 7, &session);
    event
}

/// Numbers by tag.
pub(super) fn scalars(time: f64, step: u64, numbers: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in numbers {
        let mut value = Vec::new();
        bytes(&mut value, 1, tag.as_bytes());
        key(&mut value, 2, FOUR_BYTES);
        value.extend((*number as f32).to_le_bytes());
        bytes(&mut summary, 1, &value);
    }
    with(time, step, &summary)
}

/// A text: a tensor of one string for the plugin of that name.
pub(super) fn text(time: f64, step: u64, tag: &str, text: &str) -> Vec<u8> {
    const STRING: u64 = 7;
    let (mut dimension, mut shape, mut tensor) = (Vec::new(), Vec::new(), Vec::new());
    whole(&mut dimension, 1, 1);
    bytes(&mut shape, 2, &dimension);
    whole(&mut tensor, 1, STRING);
    bytes(&mut tensor, 2, &shape);
    bytes(&mut tensor, 8, text.as_bytes());
    let (mut plugin, mut metadata) = (Vec::new(), Vec::new());
    bytes(&mut plugin, 1, b"text");
    bytes(&mut metadata, 1, &plugin);
    let (mut value, mut summary) = (Vec::new(), Vec::new());
    bytes(&mut value, 1, tag.as_bytes());
    bytes(&mut value, 8, &tensor);
    bytes(&mut value, 9, &metadata);
    bytes(&mut summary, 1, &value);
    with(time, step, &summary)
}

fn with(time: f64, step: u64, summary: &[u8]) -> Vec<u8> {
    let mut event = of(time, step);
    bytes(&mut event, 5, summary);
    event
}

fn of(time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, EIGHT_BYTES);
    event.extend(time.to_le_bytes());
    // Protobuf leaves zeros out.
    if step > 0 {
        whole(&mut event, 2, step);
    }
    event
}

/// Wire types.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn whole(out: &mut Vec<u8>, field: u64, number: u64) {
    key(out, field, VARINT);
    varint(out, number);
}

fn bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(out, field, BYTES);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
