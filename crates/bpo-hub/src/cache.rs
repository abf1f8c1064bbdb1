//! The cache as Python's `huggingface_hub` lays it out: `models--owner--name/` with `refs/REVISION` (a commit),
//! `snapshots/COMMIT/FILE` (links) and `blobs/ETAG` (contents).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::id::is_commit;
use crate::{Error, Id};

/// One repository's part of the cache.
pub(crate) struct Repository {
    folder: PathBuf,
}

impl Repository {
    pub fn new(cache: &Path, id: &Id) -> Self {
        Self { folder: cache.join(id.folder()) }
    }

    /// The commit that a revision was when it was last asked for.
    pub fn commit(&self, id: &Id) -> Option<String> {
        if id.is_pinned() {
            return Some(id.revision().to_owned());
        }
        let commit = fs::read_to_string(self.reference(id.revision())).ok()?.trim().to_owned();
        is_commit(&commit).then_some(commit)
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    /// Notes which commit a revision is.
    pub fn remember(&self, id: &Id, commit: &str) -> Result<(), Error> {
        if id.is_pinned() || self.commit(id).is_some_and(|known| known == commit) {
            return Ok(());
        }
        let path = self.reference(id.revision());
        create_parent(&path)?;
        replace(&path, |file| file.write_all(commit.as_bytes()))
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where the contents of an entity tag are kept.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Gives a blob its name in a snapshot.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), Error> {
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        // Up from the file's folder to the repository's.
        let up = "../".repeat(2 + file.matches('/').count());
        link(&self.blob(etag), Path::new(&format!("{up}blobs/{etag}")), &path)
    }
}

/// A relative link, so that the cache may be moved.
#[cfg(unix)]
fn link(_: &Path, target: &Path, path: &Path) -> Result<(), Error> {
    match std::os::unix::fs::symlink(target, path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && !path.exists() => {
            // It led to nothing, or to what is no more.
            fs::remove_file(path).map_err(Error::io(path))?;
            std::os::unix::fs::symlink(target, path).map_err(Error::io(path))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(Error::io(path)),
    }
}

/// A copy, as Python makes where links need rights.
#[cfg(not(unix))]
fn link(blob: &Path, _: &Path, path: &Path) -> Result<(), Error> {
    let part = path.with_extension("part");
    fs::copy(blob, &part).map_err(Error::io(&part))?;
    fs::rename(&part, path).map_err(Error::io(path))
}

pub(crate) fn create_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io(parent))
}

/// Writes a small file beside its place and moves it there.
fn replace(path: &Path, write: impl FnOnce(&mut fs::File) -> std::io::Result<()>) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file = fs::File::create(&part).map_err(Error::io(&part))?;
    write(&mut file).map_err(Error::io(&part))?;
    fs::rename(&part, path).map_err(Error::io(path))
}
