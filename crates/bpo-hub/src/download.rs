//! One file into the cache.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::cache::{Repository, create_parent};
use crate::client::{Absent, Client, Head};
use crate::{Error, Watch};

/// Bytes read at a time.
const PIECE: usize = 256 << 10;
/// How often a broken download is taken up again.
const TRIES: u32 = 5;
/// How long to wait before the first time; each further one takes as long again.
const PAUSE: Duration = Duration::from_millis(300);

/// Brings the contents that `head` names to their place, from where an earlier try ended.
pub(crate) fn download(
    client: &Client<'_>,
    repository: &Repository,
    file: &str,
    head: &Head,
    watch: &mut dyn Watch,
) -> Result<(), Absent> {
    let blob = repository.blob(&head.etag);
    if blob.is_file() {
        return Ok(());
    }
    create_parent(&blob).map_err(Absent::Other)?;
    let part = blob.with_extension("incomplete");
    let io = |path: &Path| {
        let path: PathBuf = path.to_owned();
        move |source| Absent::Other(Error::Io { path, source })
    };
    let mut out =
        OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&part).map_err(io(&part))?;
    // Another process may be at it: when it is done there is nothing left to do.
    out.lock().map_err(io(&part))?;
    if blob.is_file() {
        return Ok(());
    }
    watch.begin(file, head.size);
    let mut failure = String::new();
    for attempt in 0..TRIES {
        sleep(PAUSE * attempt);
        let done = continued(client, file, head, &mut out, &part, watch);
        match done {
            Ok(()) => {
                watch.end();
                if !is_named(&head.etag, &mut out).map_err(io(&part))? {
                    fs::remove_file(&part).map_err(io(&part))?;
                    return Err(Absent::Other(client.altered(file)));
                }
                out.sync_all().map_err(io(&part))?;
                return fs::rename(&part, &blob).map_err(io(&blob));
            }
            Err(Absent::Hub(reason)) => failure = reason,
            Err(other) => {
                watch.end();
                return Err(other);
            }
        }
    }
    watch.end();
    match out.metadata().map_err(io(&part))?.len() {
        0 => Err(Absent::Hub(failure)),
        have => Err(Absent::Broken(client.broken(file, have, head.size, failure))),
    }
}

/// Whether a file has the contents that its entity tag names, if it does: of large files the tag is the SHA-256.
fn is_named(etag: &str, file: &mut File) -> std::io::Result<bool> {
    if etag.len() != 64 || !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(true);
    }
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(hex.eq_ignore_ascii_case(etag))
}

/// Appends what is missing.
fn continued(
    client: &Client<'_>,
    file: &str,
    head: &Head,
    out: &mut File,
    part: &Path,
    watch: &mut dyn Watch,
) -> Result<(), Absent> {
    let io = |source| Absent::Other(Error::Io { path: part.to_owned(), source });
    let mut have = out.metadata().map_err(io)?.len();
    if have > head.size {
        have = 0;
    }
    if have < head.size || head.size == 0 {
        let reply = client.get(head, have)?;
        have = match reply.status().as_u16() {
            206 => have,
            // The whole file, whatever was asked for.
            200 => 0,
            status @ 500.. => return Err(Absent::Hub(format!("it answers {status}"))),
            status => return Err(Absent::Other(client.reply(file, format!("it answers {status}")))),
        };
        out.set_len(have).map_err(io)?;
        out.seek(SeekFrom::Start(have)).map_err(io)?;
        watch.at(have);
        let mut body = reply.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let read = body.read(&mut piece).map_err(|error| Absent::Hub(error.to_string()))?;
            if read == 0 {
                break;
            }
            have += read as u64;
            if have > head.size {
                return Err(Absent::Other(
                    client.reply(file, format!("it is longer than the {} bytes it says", head.size)),
                ));
            }
            out.write_all(&piece[..read]).map_err(io)?;
            watch.at(have);
        }
    }
    if have == head.size { Ok(()) } else { Err(Absent::Hub(format!("it ended at byte {have} of {}", head.size))) }
}
