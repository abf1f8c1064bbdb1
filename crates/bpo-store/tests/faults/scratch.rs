//! Folders to ruin, and what is compared afterwards.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bpo_store::RunDir;
use tempfile::TempDir;

/// A process that is being started has copies of all open files for a moment, and with them the locks: nobody starts
/// one while another test of this process has a run open.
static STARTS: RwLock<()> = RwLock::new(());

/// Held while a process is started.
pub fn starting() -> RwLockWriteGuard<'static, ()> {
    STARTS.write().unwrap_or_else(PoisonError::into_inner)
}

/// Held while a run is open in this process.
pub fn holding() -> RwLockReadGuard<'static, ()> {
    STARTS.read().unwrap_or_else(PoisonError::into_inner)
}

/// What `look` finds in an open run.
pub fn opened<T>(run: &Path, look: impl FnOnce(RunDir) -> T) -> T {
    let _holding = holding();
    look(RunDir::open(run).unwrap())
}

/// A temporary folder; in memory where the system has such, since what is tested is what is written and when, and a
/// killed process loses nothing that it has handed to the system. `power.rs` tests what is synced.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(folder) = tempfile::tempdir_in(memory)
    {
        return folder;
    }
    tempfile::tempdir().unwrap()
}

/// How many faults: `count`, or as many times that as the environment says.
pub fn faults(count: u64) -> u64 {
    let times = std::env::var("BPO_FAULTS").ok().map_or(1, |times| times.parse().expect("BPO_FAULTS is a number"));
    count * times
}

/// Random numbers that are the same in every run of a test (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % sides.max(1)
    }
}

/// Every file below a folder, by its path in it.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inside) = folders.pop() {
        for entry in fs::read_dir(folder.join(&inside)).unwrap() {
            let entry = entry.unwrap();
            let path = inside.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false => drop(found.insert(path.to_str().unwrap().to_owned(), fs::read(entry.path()).unwrap())),
            }
        }
    }
    found
}

/// What a run has left: every file with its bytes, but for the lock, which names a process.
pub fn artefacts(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(run);
    files.remove("lock");
    files
}

/// Asserts that two runs left the same, and says which files differ.
pub fn assert_same(found: &BTreeMap<String, Vec<u8>>, whole: &BTreeMap<String, Vec<u8>>, told: impl Fn() -> String) {
    let names = found.keys().chain(whole.keys());
    let differ: Vec<&String> = names.filter(|name| found.get(*name) != whole.get(*name)).collect();
    assert!(differ.is_empty(), "{}: {differ:?}", told());
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
