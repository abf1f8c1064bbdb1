//! One record, as bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `BPOr` |
//! | 8 | step, little-endian |
//! | 4 | length of the payload, little-endian |
//! | 1 | length of the kind |
//! | 7 | the first bytes of the BLAKE3 hash of all before |
//! | … | kind, payload |
//! | 16 | the first bytes of the BLAKE3 hash of all before |

/// What a journal begins with; the last byte is its version.
pub(super) const FILE_HEADER: &[u8] = b"BPOjrnl1";

const MARK: &[u8; 4] = b"BPOr";
/// Length of what stands before kind and payload.
pub(super) const HEADER: usize = 24;
/// How much of the header its own check covers.
const CHECKED: usize = 17;
/// Length of the check of a whole record.
pub(super) const CHECK: usize = 16;

/// The trusted head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub step: u64,
    pub payload: usize,
    pub kind: usize,
}

impl Header {
    /// Reads a head; `None` when it is none, or damaged.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (fields, check) = bytes.get(..HEADER)?.split_at(CHECKED);
        if !fields.starts_with(MARK) || blake3::hash(fields).as_bytes()[..HEADER - CHECKED] != *check {
            return None;
        }
        let payload = u32::from_le_bytes(fields[12..16].try_into().ok()?);
        Some(Self {
            step: u64::from_le_bytes(fields[4..12].try_into().ok()?),
            payload: usize::try_from(payload).ok()?,
            kind: usize::from(fields[16]),
        })
    }

    /// Length of the whole record.
    pub fn record(&self) -> usize {
        HEADER + self.kind + self.payload + CHECK
    }
}

/// A whole record; `None` when a length does not fit.
pub(super) fn encode(step: u64, kind: &str, payload: &[u8]) -> Option<Vec<u8>> {
    let payload_length = u32::try_from(payload.len()).ok()?;
    let kind_length = u8::try_from(kind.len()).ok()?;
    let mut record = Vec::with_capacity(HEADER + kind.len() + payload.len() + CHECK);
    record.extend_from_slice(MARK);
    record.extend_from_slice(&step.to_le_bytes());
    record.extend_from_slice(&payload_length.to_le_bytes());
    record.push(kind_length);
    let check = blake3::hash(&record);
    record.extend_from_slice(&check.as_bytes()[..HEADER - CHECKED]);
    record.extend_from_slice(kind.as_bytes());
    record.extend_from_slice(payload);
    let check = blake3::hash(&record);
    record.extend_from_slice(&check.as_bytes()[..CHECK]);
    Some(record)
}

/// The payload of a whole record, when it is intact and has this step and kind.
pub(super) fn payload(mut record: Vec<u8>, step: u64, kind: &str) -> Option<Vec<u8>> {
    let header = Header::read(&record)?;
    let body = HEADER + kind.len();
    if header.record() != record.len() || header.step != step || record.get(HEADER..body)? != kind.as_bytes() {
        return None;
    }
    let check = record.split_off(record.len() - CHECK);
    if blake3::hash(&record).as_bytes()[..CHECK] != check {
        return None;
    }
    Some(record.split_off(body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_reads_back(step: u64, kind in "[a-z]{1,20}", bytes: Vec<u8>) {
            let record = encode(step, &kind, &bytes).unwrap();
            prop_assert_eq!(Header::read(&record).unwrap().record(), record.len());
            prop_assert_eq!(payload(record, step, &kind).unwrap(), bytes);
        }

        #[test]
        fn a_flipped_bit_is_noticed(at: prop::sample::Index, bit in 0u8..8, bytes: Vec<u8>) {
            let mut record = encode(7, "judged", &bytes).unwrap();
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
            prop_assert_eq!(payload(record, 7, "judged"), None);
        }
    }
}
