use std::{
    io::Write,
    path::{Path, PathBuf},
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

/// The story model with its tokenizer, as one directory.
fn story(dir: &Path) -> PathBuf {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/story");
    let model = dir.join("story");
    std::fs::create_dir(&model).unwrap();
    for folder in [assets.join("model"), assets] {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap();
            let wanted = entry.extension().is_some_and(|found| found == "json" || found == "safetensors");
            if wanted && !model.join(name).exists() {
                std::fs::copy(&entry, model.join(name)).unwrap();
            }
        }
    }
    model
}

#[test]
fn recipes_of_every_kind_and_tuning_pass_check_and_run() {
    let dir = tempfile::tempdir().unwrap();
    let model = story(dir.path());
    let row = |i| format!("{{\"prompt\":\"A small owl saw {i} bees.\",\"completion\":\" It was glad of all {i}.\"}}\n");
    let (_data, data) = file("d.jsonl", &(0..64).map(row).collect::<String>());
    let (train, sft, reward) = (&["train"][..], &["sft"][..], &["reward", "train"][..]);
    let kinds: [(&str, &[&str], &[&str], &str); 8] = [
        ("sft-lora", &["--data", arg(&data)], sft, "use_peft = true"),
        ("sft-full", &["--data", arg(&data), "--tuning", "full"], sft, "use_peft = false"),
        ("reward-lora", &["--pairs", "embedded", "--procedure", "reward"], reward, "tuning = \"lora\""),
        (
            "reward-full",
            &["--pairs", "embedded", "--procedure", "reward", "--tuning", "full"],
            reward,
            "tuning = \"full\"",
        ),
        (
            "reward-head",
            &["--pairs", "embedded", "--procedure", "reward", "--tuning", "head"],
            reward,
            "tuning = \"head\"",
        ),
        ("causal-lora", &["--outcomes", "embedded"], train, "use_peft = true"),
        ("causal-full", &["--outcomes", "embedded", "--tuning", "full"], train, "use_peft = false"),
        ("bpo-full", &["--prompts", "embedded", "--tuning", "full"], train, "use_peft = false"),
    ];
    for (name, flags, verb, written) in kinds {
        let recipe = dir.path().join(format!("{name}.toml"));
        let init = ["init", "--model", arg(&model), "--yes", "--out", arg(&recipe)];
        let done = bpo(&[&init[..], flags].concat());
        done.succeeded();
        assert!(done.stdout.contains(&format!("bpo {} ", verb.join(" "))), "{}", done.stdout);
        let text = std::fs::read_to_string(&recipe).unwrap();
        assert!(text.contains(written) && text.lines().filter(|line| line.starts_with("# ")).count() > 8, "{text}");
        bpo(&["check", arg(&recipe), "--budget", "0.1"]).succeeded();
        let run = dir.path().join(name);
        let mut short = vec!["--set", "max_steps=1"];
        if verb == train {
            short.extend(["--set", "eval_size=2", "--set", "max_new_tokens=8"]);
        }
        bpo(&[verb, &[arg(&recipe), "--run-dir", arg(&run)], &short[..]].concat()).succeeded();
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

/// What is on the screen of a terminal on which `bpo init` is answered so, and whether it succeeded; `None` and a line that
/// says so where there is no `script` of util-linux, which gives a program a terminal.
fn answered(args: &[&str], answers: &str) -> Option<(bool, String)> {
    let command = format!("{} init {}", env!("CARGO_BIN_EXE_bpo"), args.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = script.spawn() else {
        eprintln!("skipped: script is not installed");
        return None;
    };
    child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Some((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn table(recipe: &Path) -> toml::Table {
    std::fs::read_to_string(recipe).unwrap().parse().unwrap()
}

#[test]
fn on_a_terminal_it_asks_for_what_no_flag_says() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = dir.path().join("r.toml");
    // Prompts (the first choice), the built-in ones; the second procedure; LoRA; no references; the proposed annotator.
    let told = answered(&["--model", "embedded", "--out", arg(&recipe)], "\r\r\x1b[B\r\r\r\r");
    let Some((succeeded, screen)) = told else { return };
    assert!(succeeded && screen.contains("preference pairs") && screen.contains("Procedure"), "{screen}");
    let table = table(&recipe);
    assert_eq!((table["prompts"].as_str(), table["reference"].as_str()), (Some("embedded"), Some("initial")));
    assert_eq!(
        (table["collection_phases"].as_str(), table["annotator"]["kind"].as_str()),
        (Some("T"), Some("lexicon"))
    );
}

#[test]
fn a_file_of_other_rows_and_a_model_that_is_nowhere_are_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let (_files, [texts, pairs]) = two_files();
    let recipe = dir.path().join("r.toml");
    // No such model, then the built-in one; pairs (the second choice), first from a file without any; DPO, LoRA, the rest.
    let answers = format!("/nowhere\r\x15embedded\r\x1b[B\r{}\r\x15{}\r\r\r\r\r", arg(&texts), arg(&pairs));
    let Some((succeeded, screen)) = answered(&["--out", arg(&recipe)], &answers) else { return };
    assert!(succeeded, "{screen}");
    assert!(screen.contains("/nowhere is not there") && screen.contains("unknown schema"), "{screen}");
    assert_eq!(table(&recipe)["pairs"].as_str(), Some(arg(&pairs)));
}

/// Texts alone, and pairs.
fn two_files() -> (tempfile::TempDir, [PathBuf; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let [texts, pairs] = ["texts.jsonl", "pairs.jsonl"].map(|name| dir.path().join(name));
    let write = |path: &Path, row: &str| {
        std::fs::File::create(path).unwrap().write_all(format!("{row}\n").repeat(20).as_bytes()).unwrap();
    };
    write(&texts, "{\"text\":\"A small owl\"}");
    write(&pairs, "{\"prompt\":\"A small owl\",\"chosen\":\" was glad.\",\"rejected\":\" was sad.\"}");
    (dir, [texts, pairs])
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
    init(&["--model", "embedded", "--data", "/nowhere.jsonl"]).refused(3, &["/nowhere.jsonl"]);
    init(&["--model", "embedded", "--data", "d", "--annotator", "lexicon"]).refused(2, &["--annotator", "no effect"]);
    init(&["--model", "embedded", "--data", "d", "--procedure", "reward"]).refused(2, &["--pairs", "data"]);
    init(&["--model", "embedded", "--pairs", "embedded", "--procedure", "reward"]).refused(2, &["model"]);
    init(&["--model", "embedded", "--prompts", "embedded", "--tuning", "head"]).refused(2, &["--tuning"]);
    init(&["--model", "embedded", "--prompts", "embedded", "--tuning", "some"]).refused(2, &["lora, full or head"]);
    assert!(!recipe.exists());
}
