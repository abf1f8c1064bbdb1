use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A folder with a lock, for journals that are opened and closed many times.
struct Run {
    folder: TempDir,
    lock: Arc<Lock>,
}

impl Run {
    fn new() -> Self {
        let folder = crate::scratch::folder();
        let lock = Arc::new(Lock::take(&Io::real(), folder.path()).unwrap());
        Self { folder, lock }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    fn open(&self) -> Result<Journal, Error> {
        open(&Io::real(), self.folder.path(), &self.lock)
    }

    /// Writes a journal and returns its bytes and the offset of each record.
    fn written(&self, payloads: &[&[u8]]) -> (Vec<u8>, Vec<u64>) {
        let _ = fs::remove_file(self.path());
        let mut journal = self.open().unwrap();
        let mut offsets = Vec::new();
        for (step, payload) in payloads.iter().enumerate() {
            offsets.push(journal.file.end());
            journal.append(step as u64, "judged", payload).unwrap();
        }
        (fs::read(self.path()).unwrap(), offsets)
    }
}

const PAYLOADS: &[&[u8]] = &[b"{\"a\":1}", b"", b"three\n\0", b"[4]", b"fifth"];

#[test]
fn records_read_back_after_reopening() {
    let run = Run::new();
    run.written(PAYLOADS);
    let mut journal = run.open().unwrap();
    for (step, payload) in PAYLOADS.iter().enumerate() {
        let found = journal.get(step as u64, "judged").unwrap();
        assert_eq!(found.as_deref(), Some(*payload));
    }
    assert_eq!(journal.get(0, "sampled").unwrap(), None);
    assert_eq!(journal.len(), PAYLOADS.len());
    assert_eq!(journal.torn_tail(), None);
    assert_eq!(journal.records().next(), Some((0, "judged")));
}

#[test]
fn a_second_record_of_a_step_and_kind_is_refused() {
    let run = Run::new();
    let mut journal = run.open().unwrap();
    journal.append(1, "judged", b"a").unwrap();
    journal.append(1, "sampled", b"b").unwrap();
    let refused = journal.append(1, "judged", b"c");
    assert!(matches!(refused, Err(Error::JournalDuplicate { step: 1, .. })));
    assert_eq!(journal.get(1, "judged").unwrap().unwrap(), b"a");
    assert!(journal.append(1, "", b"").is_err());
    assert!(journal.append(1, &"k".repeat(256), b"").is_err());
}

#[test]
fn a_tail_torn_at_any_byte_of_the_last_three_records_is_cut_and_reported() {
    let run = Run::new();
    let (bytes, offsets) = run.written(PAYLOADS);
    for length in offsets[2] as usize..bytes.len() {
        fs::write(run.path(), &bytes[..length]).unwrap();
        let mut journal = run.open().unwrap();
        let whole = offsets.iter().filter(|end| **end <= length as u64).count() - 1;
        assert_eq!(journal.len(), whole, "length {length}");
        let expected = (offsets[whole] < length as u64)
            .then(|| TornTail { offset: offsets[whole], bytes: length as u64 - offsets[whole] });
        assert_eq!(journal.torn_tail(), expected, "length {length}");
        // It goes on, and the file is what it would have been.
        for (step, payload) in PAYLOADS.iter().enumerate().skip(whole) {
            journal.append(step as u64, "judged", payload).unwrap();
        }
        assert_eq!(fs::read(run.path()).unwrap(), bytes, "length {length}");
    }
}

#[test]
fn damage_before_the_last_record_is_refused_with_its_offset() {
    let run = Run::new();
    let (bytes, offsets) = run.written(PAYLOADS);
    let last = *offsets.last().unwrap() as usize;
    for at in FILE_HEADER.len()..last {
        for bit in [0, 3, 7] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            fs::write(run.path(), &damaged).unwrap();
            let expected = *offsets.iter().rfind(|begin| **begin <= at as u64).unwrap();
            match run.open() {
                Err(Error::JournalDamaged { offset, .. }) => assert_eq!(offset, expected),
                other => panic!("byte {at}: {other:?}"),
            }
            assert_eq!(fs::read(run.path()).unwrap(), damaged, "it is left as it is");
        }
    }
}

#[test]
fn a_damaged_last_record_is_cut() {
    let run = Run::new();
    let (bytes, offsets) = run.written(PAYLOADS);
    let last = *offsets.last().unwrap();
    for at in last as usize..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(run.path(), &damaged).unwrap();
        let journal = run.open().unwrap();
        assert_eq!(journal.torn_tail().unwrap().offset, last, "byte {at}");
    }
    let mut zeros = bytes.clone();
    zeros.extend([0; 5000]);
    fs::write(run.path(), &zeros).unwrap();
    assert_eq!(run.open().unwrap().torn_tail().unwrap().bytes, 5000);
}

#[test]
fn a_file_that_is_no_journal_is_left_alone() {
    let run = Run::new();
    for bytes in [&b"BPOjrnl2"[..], b"hello", b"{\"step\": 1}\n"] {
        fs::write(run.path(), bytes).unwrap();
        assert!(matches!(run.open(), Err(Error::JournalFormat { .. })));
        assert_eq!(fs::read(run.path()).unwrap(), bytes);
    }
    for length in 0..FILE_HEADER.len() {
        fs::write(run.path(), &FILE_HEADER[..length]).unwrap();
        assert!(run.open().unwrap().is_empty());
        assert_eq!(fs::read(run.path()).unwrap(), FILE_HEADER);
        // After a power failure.
        fs::write(run.path(), [&FILE_HEADER[..length], &[0; 8][length..]].concat()).unwrap();
        assert!(run.open().unwrap().is_empty());
    }
}

#[test]
fn a_value_is_computed_once_and_replayed_after() {
    let run = Run::new();
    let mut asked = 0;
    for _ in 0..3 {
        let mut journal = run.open().unwrap();
        let value: Vec<f64> = journal
            .once(4, "judged", || {
                asked += 1;
                Ok::<_, Error>(vec![0.1, 1.0 / 3.0])
            })
            .unwrap();
        assert_eq!(value, [0.1, 1.0 / 3.0]);
    }
    assert_eq!(asked, 1);
}

#[test]
fn a_failed_computation_records_nothing() {
    let run = Run::new();
    let mut journal = run.open().unwrap();
    let failed = journal.once(1, "judged", || Err::<u8, _>(Error::CheckpointTwice { name: "x".into() }));
    assert!(failed.is_err());
    assert!(journal.is_empty());
    assert_eq!(journal.once(1, "judged", || Ok::<_, Error>(3)).unwrap(), 3);
    let wrong = journal.once(1, "judged", || Ok::<_, Error>(String::new()));
    assert!(matches!(wrong, Err(Error::JournalValue { step: 1, .. })));
}

#[test]
fn a_value_that_is_not_finite_is_refused_and_not_recorded() {
    let run = Run::new();
    let mut journal = run.open().unwrap();
    let refused = journal.once(1, "judged", || Ok::<_, Error>(Some(f32::NAN)));
    assert!(matches!(refused, Err(Error::JournalNotFinite { .. })));
    assert!(!journal.contains(1, "judged"));
}

#[test]
fn a_record_that_changes_under_an_open_journal_is_noticed() {
    let run = Run::new();
    let (mut bytes, offsets) = run.written(PAYLOADS);
    let mut journal = run.open().unwrap();
    bytes[offsets[1] as usize + 30] ^= 1;
    fs::write(run.path(), &bytes).unwrap();
    assert!(matches!(journal.get(1, "judged"), Err(Error::JournalDamaged { .. })));
    assert!(journal.get(2, "judged").is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn finite_floats_are_replayed_bit_by_bit(bits: Vec<u32>, wide: Vec<u64>) {
        let floats: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).filter(|x| x.is_finite()).collect();
        let wide: Vec<f64> = wide.iter().map(|bits| f64::from_bits(*bits)).filter(|x| x.is_finite()).collect();
        let run = Run::new();
        let mut given = None;
        for _ in 0..2 {
            let value = (floats.clone(), wide.clone());
            given = Some(run.open().unwrap().once(0, "k", || Ok::<_, Error>(value)).unwrap());
        }
        let (f, w): (Vec<f32>, Vec<f64>) = given.unwrap();
        prop_assert!(f.iter().map(|x| x.to_bits()).eq(floats.iter().map(|x| x.to_bits())));
        prop_assert!(w.iter().map(|x| x.to_bits()).eq(wide.iter().map(|x| x.to_bits())));
    }

    #[test]
    fn any_bytes_open_or_are_refused(tail: Vec<u8>) {
        let run = Run::new();
        let mut bytes = FILE_HEADER.to_vec();
        bytes.extend(tail);
        fs::write(run.path(), bytes).unwrap();
        prop_assert!(run.open().unwrap().is_empty());
    }
}

/// Shortest decimals of single floats come back exactly, over every exponent.
#[test]
fn single_floats_of_every_exponent_survive_json() {
    for high in 0..=u16::MAX {
        for low in [0x0000, 0x0001, 0x5555, 0xffff] {
            let float = f32::from_bits(u32::from(high) << 16 | low);
            if float.is_finite() {
                let text = serde_json::to_vec(&float).unwrap();
                let back: f32 = serde_json::from_slice(&text).unwrap();
                assert_eq!(back.to_bits(), float.to_bits());
            }
        }
    }
}
