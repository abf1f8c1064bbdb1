//! A child process with three pipes, each served by a thread of its own, so that neither a
//! program that never answers nor one that never listens can hang its caller.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Command;

/// The longest line kept; the rest of a longer one is read and thrown away.
const LONGEST_LINE: usize = 1 << 20;
/// How many lines may wait to be read before the program has to wait.
const WAITING_LINES: usize = 16;
/// How much of standard error is kept.
const STDERR_TAIL: usize = 4096;
/// How long a program that closed its pipes may take to end.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// How often an end is looked for.
const POLL: Duration = Duration::from_millis(5);

/// What came from the program.
pub(super) enum Heard {
    /// A line, without its end.
    Line(Vec<u8>),
    /// Nothing, in the time allowed.
    Nothing,
    /// The end of its output.
    End,
}

/// A running program. It is killed when this value is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    to: Sender<Vec<u8>>,
    from: Receiver<Vec<u8>>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    /// Serves standard error until its end.
    listener: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts a program.
    pub fn start(command: &Command) -> std::io::Result<Self> {
        let (program, arguments) = command.program.split_first().ok_or(ErrorKind::NotFound)?;
        let mut builder = std::process::Command::new(program);
        builder.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = &command.folder {
            builder.current_dir(folder);
        }
        own_group(&mut builder);
        Ok(Self::serve(builder.spawn()?))
    }

    fn serve(mut child: Child) -> Self {
        let (to, lines_in) = channel();
        let (lines_out, from) = sync_channel(WAITING_LINES);
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(pipe) = child.stdin.take() {
            thread::spawn(move || write_lines(pipe, &lines_in));
        }
        if let Some(pipe) = child.stdout.take() {
            thread::spawn(move || read_lines(pipe, &lines_out));
        }
        let listener = child.stderr.take().map(|pipe| {
            let tail = Arc::clone(&stderr);
            thread::spawn(move || keep_tail(pipe, &tail))
        });
        Self { child, to, from, stderr, listener }
    }

    /// Hands over a line (with its end). A program that no longer listens shows in [`Self::hear`].
    pub fn tell(&self, line: Vec<u8>) {
        // The writer is gone when the pipe broke: then the reader sees the end of output.
        let _ = self.to.send(line);
    }

    /// The next line, if one comes before `deadline`.
    pub fn hear(&self, deadline: Instant) -> Heard {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.from.recv_timeout(left) {
            Ok(line) => Heard::Line(line),
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// The exit status in words, after the end of output.
    pub fn status(&mut self) -> String {
        let deadline = Instant::now() + LAST_BREATH;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
                Ok(None) => return "still running, but it closed its output".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    }

    /// The last 4 KiB of standard error of a program that has ended: all of it is waited for.
    pub fn last_words(&self) -> String {
        let deadline = Instant::now() + LAST_BREATH;
        // A child of the program may hold the pipe open for as long as it likes.
        while Instant::now() < deadline && self.listener.as_ref().is_some_and(|it| !it.is_finished()) {
            thread::sleep(POLL);
        }
        self.stderr()
    }

    /// The last 4 KiB of standard error so far.
    pub fn stderr(&self) -> String {
        let mut tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(tail.make_contiguous()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the program has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A terminal sends Ctrl-C to a whole process group. The run wants to finish its stage first,
/// and needs its judge for that.
#[cfg(unix)]
fn own_group(builder: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    builder.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_: &mut std::process::Command) {}

fn write_lines(mut pipe: ChildStdin, lines: &Receiver<Vec<u8>>) {
    for line in lines {
        if pipe.write_all(&line).and_then(|()| pipe.flush()).is_err() {
            return;
        }
    }
}

fn read_lines(pipe: ChildStdout, lines: &SyncSender<Vec<u8>>) {
    let mut pipe = BufReader::new(pipe);
    while let Ok(Some(line)) = read_line(&mut pipe) {
        if lines.send(line).is_err() {
            return;
        }
    }
}

/// One line without its end, cut at the longest length; `None` at the end of output. A last
/// line without an end is the torn word of a dying program, not an answer.
fn read_line(pipe: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let chunk = pipe.fill_buf()?;
        if chunk.is_empty() {
            return Ok(None);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(chunk.len());
        let room = LONGEST_LINE - line.len();
        line.extend_from_slice(&chunk[..taken.min(room)]);
        pipe.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

fn keep_tail(mut pipe: ChildStderr, tail: &Mutex<VecDeque<u8>>) {
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = pipe.read(&mut chunk) {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&chunk[..read]);
        let surplus = tail.len().saturating_sub(STDERR_TAIL);
        tail.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_the_longest_length_and_the_next_is_whole() {
        let mut bytes = vec![b'x'; LONGEST_LINE + 5000];
        bytes.extend_from_slice(b"\n{}\ntorn");
        let mut pipe = BufReader::new(bytes.as_slice());
        assert_eq!(read_line(&mut pipe).unwrap().unwrap().len(), LONGEST_LINE);
        assert_eq!(read_line(&mut pipe).unwrap().unwrap(), b"{}");
        assert_eq!(read_line(&mut pipe).unwrap(), None);
    }
}
