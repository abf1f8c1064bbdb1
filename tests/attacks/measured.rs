//! The program in a process of its own, with its time and its memory.
//!
//! The system tells the peak memory of *all* children a process waited for, so each measured command has a parent of
//! its own: this test binary again, running the one ignored test below.
use std::{
    env,
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};

const ARGUMENTS: &str = "BPO_TEST_MEASURED";
const MARK: &str = "measured: ";

/// What a command left behind.
pub struct Measured {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub seconds: f64,
    /// Peak resident memory in bytes; `None` where the system does not tell.
    pub peak: Option<u64>,
}

/// Runs the program and measures it.
pub fn measured(args: &[&str]) -> Measured {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "attacks::measured::one_command", "--ignored", "--nocapture"])
        .env(ARGUMENTS, json!(args).to_string())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let line = told.lines().find_map(|line| line.split_once(MARK)).map(|(_, line)| line);
    let told: Value = serde_json::from_str(line.unwrap_or_else(|| panic!("{told}"))).unwrap();
    let text = |key: &str| told[key].as_str().unwrap().to_owned();
    Measured {
        code: told["code"].as_i64().map(|code| code as i32),
        stdout: text("stdout"),
        stderr: text("stderr"),
        seconds: told["seconds"].as_f64().unwrap(),
        peak: told["peak"].as_u64(),
    }
}

#[test]
#[ignore = "started by the other attacks, once per command"]
fn one_command() {
    let Ok(args) = env::var(ARGUMENTS) else { return };
    let args: Vec<String> = serde_json::from_str(&args).unwrap();
    let begin = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpo"));
    command.args(args).env_remove("BPO_DEVICE").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    let output = command.output().unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let told = json!({"code": output.status.code(), "stdout": stdout, "stderr": stderr, "seconds": seconds,
        "peak": peak()});
    println!("{MARK}{told}");
}

/// The largest peak among the children of this process.
#[cfg(target_os = "linux")]
fn peak() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let kibibytes = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?.max_rss();
    u64::try_from(kibibytes).ok().map(|kibibytes| kibibytes << 10)
}

#[cfg(not(target_os = "linux"))]
fn peak() -> Option<u64> {
    None
}
