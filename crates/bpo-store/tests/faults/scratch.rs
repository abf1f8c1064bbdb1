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
