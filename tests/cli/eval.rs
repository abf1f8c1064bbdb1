use super::bpo::{arg, bpo, file};

const SMALL: [&str; 5] = ["eval", "--max-new-tokens", "4", "--size", "3"];

fn eval(more: &[&str]) -> super::bpo::Run {
    bpo(&[&SMALL, more].concat())
}

#[test]
fn a_policy_ties_with_itself() {
    let run = eval(&["--against-model", "embedded", "--top-k", "5", "--json"]);
    let rows = run.rows();
    assert_eq!(rows.len(), 4);
    assert!(rows[..3].iter().all(|row| row["win"] == 0.5 && row["response"] == row["against"]), "{}", run.stdout);
    assert_eq!(rows[3]["totals"]["win_rate"]["mean"], 0.5);
}

#[test]
fn prompts_without_texts_will_do_where_two_policies_are_compared() {
    let (_dir, prompts) = file("p.jsonl", "{\"prompt\":\"A small owl\"}\n{\"prompt\":\"A big dog\"}\n");
    eval(&["--references", arg(&prompts)]).refused(3, &["p.jsonl:1"]);
    for flag in ["--references", "--prompts"] {
        let rows = eval(&[flag, arg(&prompts), "--against-base", "--json"]).rows();
        assert_eq!((rows.len(), &rows[0]["reference"]), (3, &serde_json::Value::Null));
        assert!(rows[2]["totals"]["reference_win_rate"].is_null());
    }
}

#[test]
fn sizes_start_at_one_and_no_prompt_is_bad_input() {
    for flag in ["--size", "--max-new-tokens", "--batch-size"] {
        bpo(&["eval", flag, "0"]).refused(2, &[flag]);
    }
    eval(&["--top-p", "2"]).refused(2, &["top_p"]);
    let (_dir, long) = file("p.jsonl", &format!("{{\"prompt\":\"{}\"}}\n", "word ".repeat(9000)));
    eval(&["--prompts", arg(&long)]).refused(3, &["no prompt is left"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_at_once() {
    use std::{
        io::{BufRead, BufReader},
        os::unix::process::ExitStatusExt,
        process::{Command, Stdio},
    };
    if sigint_is_ignored() {
        println!("skipped: SIGINT is ignored here, as in a background job, and so in every child");
        return;
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_bpo"))
        .args(["eval", "--size", "500", "--max-new-tokens", "200", "--batch-size", "1"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // Kept open until the end: who cannot say how far it is ends in another way.
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("device"), "{line}");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    drop(stderr);
}

/// Bit 1 of `SigIgn` is signal 2. Where there is no /proc it is taken not to be.
#[cfg(unix)]
fn sigint_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & 2 != 0)
}
