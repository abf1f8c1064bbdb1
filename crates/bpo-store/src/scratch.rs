//! Folders for tests.

use std::path::Path;

use tempfile::TempDir;

/// A temporary folder; in memory where the system has such: the tests here sync thousands of files.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(folder) = tempfile::tempdir_in(memory)
    {
        return folder;
    }
    tempfile::tempdir().unwrap()
}
