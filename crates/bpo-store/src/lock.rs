//! One process per run: an advisory lock that dies with its holder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Error;
use crate::io::{Io, failed};

/// The name of the lock's file. The file stays when the run ends; the lock does not.
pub(crate) const FILE: &str = "lock";

/// Holds a run until it is dropped, or until its process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of a run, or says who has it.
    pub fn take(io: &Io, run: &Path) -> Result<Self, Error> {
        let path = run.join(FILE);
        let mut file = io.open_or_create(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { path: run.to_owned(), pid: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        sign(io, &mut file, &path)?;
        Ok(Self { file })
    }
}

/// A child process that another thread is starting has a copy of every descriptor until it executes its program, and
/// with it the lock: closing ours is not enough to free the run at once.
impl Drop for Lock {
    fn drop(&mut self) {
        // A lock that cannot be released here ends with the descriptor.
        let _ = self.file.unlock();
    }
}

/// Writes the process id over whatever an earlier holder wrote.
fn sign(io: &Io, file: &mut File, path: &Path) -> Result<(), Error> {
    io.set_length(file, path, 0)?;
    io.write_at(file, path, 0, format!("{}\n", std::process::id()).as_bytes())
}

/// How long a holder may take to sign.
const PATIENCE: Duration = Duration::from_millis(500);

/// The process id of the holder, which may have taken the lock this instant and not have signed yet: until then the
/// file is empty or names an earlier holder, who is gone.
fn holder(file: &mut File) -> Option<u32> {
    let began = Instant::now();
    loop {
        let found = signature(file);
        if found.is_some_and(is_alive) || began.elapsed() > PATIENCE {
            return found;
        }
        sleep(Duration::from_millis(5));
    }
}

fn signature(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether there is such a process, as far as can be told without asking it.
fn is_alive(process: u32) -> bool {
    !cfg!(target_os = "linux") || Path::new("/proc").join(process.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_told_who_has_the_run() {
        let run = crate::scratch::folder();
        let _held = Lock::take(&Io::real(), run.path()).unwrap();
        match Lock::take(&Io::real(), run.path()) {
            Err(Error::Locked { path, pid }) => {
                assert_eq!(path, run.path());
                assert_eq!(pid, Some(std::process::id()));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_lock_dies_with_its_holder() {
        let run = crate::scratch::folder();
        drop(Lock::take(&Io::real(), run.path()).unwrap());
        Lock::take(&Io::real(), run.path()).unwrap();
    }

    #[test]
    fn the_lock_ends_with_its_holder_though_a_child_has_the_descriptor() {
        let run = crate::scratch::folder();
        let held = Lock::take(&Io::real(), run.path()).unwrap();
        let _inherited = held.file.try_clone().unwrap();
        drop(held);
        Lock::take(&Io::real(), run.path()).unwrap();
    }

    #[test]
    fn a_stale_lock_file_does_not_lock() {
        let run = crate::scratch::folder();
        std::fs::write(run.path().join(FILE), "999999999 and more than a number").unwrap();
        let _held = Lock::take(&Io::real(), run.path()).unwrap();
        let text = std::fs::read_to_string(run.path().join(FILE)).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
    }

    #[test]
    fn of_many_racing_openers_one_wins() {
        let run = crate::scratch::folder();
        for _ in 0..100 {
            let winners: Vec<_> = std::thread::scope(|scope| {
                let racers = [(); 4].map(|()| scope.spawn(|| Lock::take(&Io::real(), run.path()).ok()));
                racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
            });
            assert_eq!(winners.len(), 1);
        }
    }
}
