use std::{
    io::Write,
    process::{Command, Stdio},
};

use super::bpo::{arg, bpo, file, json};

#[test]
fn a_recipe_passes_check_and_trains() {
    let dir = tempfile::tempdir().unwrap();
    let prompts: String =
        (0..40).map(|i| format!("{{\"prompt\":\"A small owl named Otto saw {i} bees.\"}}\n")).collect();
    let (_prompts, prompts) = file("p.jsonl", &prompts);
    let pair = |i| format!("{{\"prompt\":\"A small owl {i}\",\"chosen\":\" was glad.\",\"rejected\":\" was sad.\"}}\n");
    let pairs: String = (0..30).map(pair).collect();
    let (_pairs, pairs) = file("pairs.jsonl", &pairs);
    let length = "{ kind = \"length\", prefer = \"shorter\" }";
    for (name, flags) in [
        ("bpo", vec!["--prompts", arg(&prompts)]),
        ("online", vec!["--prompts", "embedded", "--references", "embedded", "--procedure", "online-dpo"]),
        ("offline", vec!["--prompts", arg(&prompts), "--procedure", "offline-dpo", "--annotator", length]),
        ("dpo", vec!["--pairs", arg(&pairs)]),
    ] {
        let recipe = dir.path().join(format!("{name}.toml"));
        bpo(&[&["init", "--model", "embedded", "--yes", "--out", arg(&recipe)], flags.as_slice()].concat()).succeeded();
        let text = std::fs::read_to_string(&recipe).unwrap();
        assert!(text.lines().filter(|line| line.starts_with("# ")).count() > 10, "{text}");
        bpo(&["check", arg(&recipe), "--quick"]).succeeded();
        let run = dir.path().join(name);
        let short = ["--set", "max_steps=1", "--set", "eval_size=2", "--set", "max_new_tokens=8"];
        bpo(&[&["train", arg(&recipe), "--run-dir", arg(&run)], &short[..]].concat()).succeeded();
        assert_eq!(json(&run.join("finished.json"))["steps"], 1, "{name}");
    }
}

#[test]
fn lengths_come_from_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = dir.path().join("r.toml");
    let rows: String = (0..30)
        .map(|i| {
            format!("{{\"prompt\":\"A small owl {i}\",\"chosen\":\" was glad.\",\"rejected\":\" was {i} sad.\"}}\n")
        })
        .collect();
    let (_pairs, pairs) = file("pairs.jsonl", &rows);
    bpo(&["init", "--model", "embedded", "--pairs", arg(&pairs), "--yes", "--out", arg(&recipe)]).succeeded();
    let table: toml::Table = std::fs::read_to_string(&recipe).unwrap().parse().unwrap();
    let number = |key: &str| table[key].as_integer().unwrap();
    assert!(number("max_new_tokens") <= 16 && number("max_prompt_length") <= 16, "{table}");
    assert_eq!(table["reference"].as_str(), Some("initial"));
}

/// Through `script` of util-linux, which gives a program a terminal.
#[test]
fn on_a_terminal_it_asks_for_what_no_flag_says() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = dir.path().join("r.toml");
    let command = format!("{} init --model embedded --out {}", env!("CARGO_BIN_EXE_bpo"), arg(&recipe));
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = script.spawn() else {
        eprintln!("skipped: script is not installed");
        return;
    };
    // Prompts (the first choice), the built-in ones; the second procedure; no references; the proposed annotator.
    child.stdin.take().unwrap().write_all(b"\r\r\x1b[B\r\r\r").unwrap();
    let output = child.wait_with_output().unwrap();
    let screen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{screen}");
    assert!(screen.contains("preference pairs") && screen.contains("Procedure"), "{screen}");
    let table: toml::Table = std::fs::read_to_string(&recipe).unwrap().parse().unwrap();
    assert_eq!((table["prompts"].as_str(), table["reference"].as_str()), (Some("embedded"), Some("initial")));
    assert_eq!(
        (table["collection_phases"].as_str(), table["annotator"]["kind"].as_str()),
        (Some("T"), Some("lexicon"))
    );
}

#[test]
fn a_file_that_is_there_is_kept_unless_forced() {
    let (_dir, recipe) = file("r.toml", "mine");
    let init = |more: &[&str]| {
        let base = ["init", "--model", "embedded", "--prompts", "embedded", "--yes", "--out", arg(&recipe)];
        bpo(&[&base[..], more].concat())
    };
    init(&[]).refused(2, &["r.toml", "--force"]);
    assert_eq!(std::fs::read_to_string(&recipe).unwrap(), "mine");
    init(&["--force"]).succeeded();
}

#[test]
fn what_is_missing_or_wrong_is_named_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = dir.path().join("r.toml");
    let init = |args: &[&str]| bpo(&[&["init", "--out", arg(&recipe)], args].concat());
    init(&[]).refused(2, &["--model", "terminal"]);
    init(&["--model", "embedded"]).refused(2, &["--prompts", "--pairs"]);
    init(&["--model", "/nowhere", "--prompts", "embedded"]).refused(3, &["/nowhere"]);
    init(&["--model", "embedded", "--prompts", "/nowhere.jsonl"]).refused(3, &["/nowhere.jsonl"]);
    init(&["--model", "embedded", "--prompts", "embedded", "--annotator", "lexicn"]).refused(2, &["`lexicon`"]);
    init(&["--model", "embedded", "--prompts", "embedded", "--procedure", "dpo"]).refused(2, &["--pairs"]);
    init(&["--model", "embedded", "--prompts", "a", "--pairs", "b"]).refused(2, &["--pairs"]);
    assert!(!recipe.exists());
}
