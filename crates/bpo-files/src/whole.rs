//! Small files, read whole.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::Error;

/// The longest JSON file that is read, in bytes; the longest shard indexes have a few MiB.
const MAX_JSON: u64 = 64 << 20;

/// All bytes of a regular file that is at most 64 MiB long, such as a `config.json` or a shard index.
///
/// # Errors
/// [`Error::TooLarge`] before anything is read; [`Error::Io`], also for a folder, a pipe or a device.
pub fn read_json_file(path: &Path) -> Result<Vec<u8>, Error> {
    let file = open_regular(path)?;
    let bytes = file.metadata().map_err(Error::io(path))?.len();
    if bytes > MAX_JSON {
        return Err(Error::TooLarge { path: path.to_path_buf(), bytes, limit: MAX_JSON });
    }
    let mut content = Vec::new();
    file.take(MAX_JSON).read_to_end(&mut content).map_err(Error::io(path))?;
    Ok(content)
}

/// Opens a regular file, or what a link to one leads to: reading a pipe or a device might never end.
pub(crate) fn open_regular(path: &Path) -> Result<File, Error> {
    let found = std::fs::metadata(path).map_err(Error::io(path))?;
    if !found.is_file() {
        let source = std::io::Error::other(if found.is_dir() { "is a folder" } else { "is not a regular file" });
        return Err(Error::Io { path: path.to_path_buf(), source });
    }
    File::open(path).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_file_is_refused_unread_and_a_device_is_never_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        // Sparse: it has no blocks, and is refused before any is asked for.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(read_json_file(&path), Err(Error::TooLarge { bytes, .. }) if bytes == 1 << 40));
        assert!(matches!(read_json_file(dir.path()), Err(Error::Io { .. })));
        if cfg!(unix) {
            assert!(read_json_file(Path::new("/dev/zero")).unwrap_err().to_string().contains("not a regular file"));
        }
    }
}
