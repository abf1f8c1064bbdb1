//! Run folders after damage: what is read is what was written, or nothing, or an error.
use std::{cell::OnceCell, fs, path::Path};

use bpo_store::{Error, RunDir};
use tempfile::TempDir;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

/// The first byte chooses: a journal or a manifest of raw bytes, or intact ones that the rest damages.
///
/// A damaged journal gives a prefix of its records, byte for byte, or an error; a checkpoint whose manifest was
/// touched gives what was saved or is refused; and nothing appears outside of the run's folder.
pub fn journal(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    FOLDER.with(|cell| {
        let outer = cell.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
        let run = outer.path().join("run");
        match kind % 4 {
            0 => raw_journal(&run, data),
            1 => damaged_journal(&run, data),
            2 => manifest(&run, data, true),
            _ => manifest(&run, data, false),
        }
        let names: Vec<_> = fs::read_dir(outer.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["run"], "something was written outside of the run's folder");
        fs::remove_dir_all(&run).expect("removed");
    });
}

/// Every record, in order; `None` for a journal that is refused.
fn records(run: &Path) -> Option<Vec<(u64, String, Vec<u8>)>> {
    let dir = RunDir::open(run).expect("the folder is a run's");
    let mut journal = match dir.journal() {
        Ok(journal) => journal,
        Err(Error::JournalDamaged { .. } | Error::JournalFormat { .. }) => return None,
        Err(other) => panic!("{other}"),
    };
    let keys: Vec<(u64, String)> = journal.records().map(|(step, kind)| (step, kind.to_owned())).collect();
    assert_eq!(keys.len(), journal.len());
    let read = |(step, kind): (u64, String)| {
        let payload = journal.get(step, &kind).expect("checked when it was opened").expect("listed");
        (step, kind, payload)
    };
    Some(keys.into_iter().map(read).collect())
}

fn raw_journal(run: &Path, data: &[u8]) {
    drop(RunDir::open(run).expect("a new run"));
    fs::write(run.join("journal.bin"), data).expect("written");
    let Some(first) = records(run) else { return };
    // What was cut stays cut: a second look finds the same and a whole file.
    assert_eq!(records(run).as_ref(), Some(&first));
    let dir = RunDir::open(run).expect("opened");
    assert_eq!(dir.journal().expect("opened").torn_tail(), None);
}

/// Writes records of the first half of `data`, then changes bytes where the second half says.
fn damaged_journal(run: &Path, data: &[u8]) {
    let (content, damage) = data.split_at(data.len() / 2);
    let dir = RunDir::open(run).expect("a new run");
    let mut journal = dir.journal().expect("a new journal");
    for (step, payload) in content.chunks(24).enumerate() {
        journal.append(step as u64, "kind", payload).expect("appended");
    }
    drop((journal, dir));
    let written = records(run).expect("intact");
    assert_eq!(written.len(), content.chunks(24).count());
    let path = run.join("journal.bin");
    let mut bytes = fs::read(&path).expect("read");
    damaged(&mut bytes, damage);
    fs::write(&path, &bytes).expect("written");
    if let Some(left) = records(run) {
        assert!(written.starts_with(&left), "a record is not what was written");
    }
}

/// Applies three bytes at a time: where (two of them), and what; 0 cuts the rest off.
fn damaged(bytes: &mut Vec<u8>, damage: &[u8]) {
    for change in damage.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        if bytes.is_empty() {
            return;
        }
        let at = at % bytes.len();
        match change[2] {
            0 => bytes.truncate(at),
            mask => bytes[at] ^= mask,
        }
    }
}

/// Replaces the manifest of a saved checkpoint by `data`, or damages it.
fn manifest(run: &Path, data: &[u8], replace: bool) {
    const FILES: [(&str, &[u8]); 2] = [("state.json", b"{\"step\":3}"), ("weights.bin", b"0123456789")];
    let dir = RunDir::open(run).expect("a new run");
    dir.checkpoints().expect("opened").save(3, &FILES).expect("saved");
    let path = run.join("checkpoints/step-00000003/manifest.json");
    let mut bytes = fs::read(&path).expect("the manifest is there");
    if replace {
        bytes = data.to_vec();
    } else {
        damaged(&mut bytes, data);
    }
    fs::write(&path, &bytes).expect("written");
    let mut checkpoints = dir.checkpoints().expect("opened");
    match checkpoints.latest() {
        Ok(Some(checkpoint)) => {
            for (name, bytes) in FILES {
                assert_eq!(checkpoint.read(name).expect("verified"), bytes, "{name}");
            }
        }
        Ok(None) => panic!("a checkpoint vanished silently"),
        Err(Error::NoIntactCheckpoint { .. } | Error::CheckpointFormat { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}
