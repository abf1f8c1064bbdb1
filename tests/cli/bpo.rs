//! Running the binary, and finding what to run it on.
use std::{
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// What a run of the binary left behind.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    fn of(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().expect("not killed by a signal");
        Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The lines of a run that went well, as JSON.
    pub fn rows(&self) -> Vec<Value> {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON only")).collect()
    }

    /// Asserts that it went well.
    pub fn succeeded(&self) {
        assert_eq!(self.code, 0, "{}", self.stderr);
    }

    /// Asserts the exit code and that the message names all of `words`; nothing is on standard output.
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert_eq!(self.stdout, "");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in: {}", self.stderr);
        }
    }
}

/// The binary with its arguments, not yet run.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpo"));
    command.args(args).env_remove("BPO_DEVICE").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

/// Runs the binary.
pub fn bpo(args: &[&str]) -> Run {
    Run::of(command(args).output().expect("the binary starts"))
}

/// Runs the binary with more in its environment.
pub fn bpo_with(environment: &[(&str, &str)], args: &[&str]) -> Run {
    Run::of(command(args).envs(environment.iter().copied()).output().expect("the binary starts"))
}

/// Runs the binary with something on its standard input.
pub fn bpo_reading(input: &str, args: &[&str]) -> Run {
    let mut command = command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // What is refused for its flags ends without reading.
    match child.stdin.take().expect("piped").write_all(input.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("{error}"),
        _ => {}
    }
    Run::of(child.wait_with_output().expect("it ends"))
}

/// A shared fixture, or `None` and a line that says so.
pub fn fixture(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {name} is not in {}", root.display());
    None
}

/// A JSON file of a fixture.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON")
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A folder for one test, and a file in it.
pub fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join(name);
    std::fs::write(&path, text).expect("writable");
    (dir, path)
}
