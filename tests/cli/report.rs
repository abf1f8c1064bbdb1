//! `bpo report`, and the pictures that every run leaves.
use std::{
    fs,
    path::Path,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use super::bpo::{arg, bpo, command, file};

/// A short run of the default recipe in two phases.
fn arguments<'a>(dir: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let short = ["max_steps=6", "per_device_train_batch_size=4", "max_new_tokens=16", "eval_size=4", "save_steps=2"];
    let short = short.into_iter().chain(["collection_phases=2"]).flat_map(|set| ["--set", set]);
    ["train", "--run-dir", arg(dir)].into_iter().chain(short).chain(more.iter().copied()).collect()
}

fn train(dir: &Path, more: &[&str]) -> super::bpo::Run {
    bpo(&arguments(dir, more))
}

fn events(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir.join("tensorboard")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_run_leaves_its_page_figures_and_events() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let trained = train(&run, &[]);
    trained.succeeded();
    assert!(trained.stdout.contains(&format!("report: {}", run.join("report.html").display())), "{}", trained.stdout);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["Finished. Steps: 6.", "phase 2", "Win rate on held-out", "Judged pairs", "title=\"-"] {
        assert!(page.contains(part), "{part}");
    }
    for name in ["loss", "margins", "win_rate", "length"] {
        assert!(
            fs::read_to_string(run.join("figures").join(name).with_extension("svg")).unwrap().contains("<polyline")
        );
    }
    let events = events(&run);
    assert_eq!(events.len(), 1);
    for tag in ["brain.Event:2", "rewards/margins", "eval/win_rate", "pairs/first_of_phase"] {
        assert!(has(&events[0], tag), "{tag}");
    }
    fs::remove_file(run.join("report.html")).unwrap();
    bpo(&["report", arg(&run), "--png"]).succeeded();
    assert_eq!(fs::read_to_string(run.join("report.html")).unwrap(), page);
    for figure in fs::read_dir(run.join("figures")).unwrap() {
        let png = fs::read(figure.unwrap().path().with_extension("png")).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 5_000, "{} bytes", png.len());
    }
}

/// Steps of the events that have a loss, after what restarts made void; and how often the run was started again.
fn logged(dir: &Path) -> (Vec<u64>, usize) {
    let (mut steps, mut restarts) = (Vec::new(), 0);
    for file in events(dir) {
        let mut rest = file.as_slice();
        while let Some(length) = rest.get(..8).map(|length| u64::from_le_bytes(length.try_into().unwrap()) as usize) {
            let Some(event) = rest.get(12..12 + length) else { break };
            rest = rest.get(16 + length..).unwrap_or_default();
            // Behind nine bytes of time, field 2 is the step; it is below 128 here.
            let step = if event.get(9) == Some(&0x10) { u64::from(event[10]) } else { 0 };
            if event.ends_with(&[0x3a, 0x02, 0x08, 0x01]) {
                restarts += 1;
                steps.retain(|logged| *logged < step);
            }
            if has(event, "rewards/margins") {
                steps.push(step);
            }
        }
    }
    (steps, restarts)
}

#[test]
fn a_run_that_goes_on_has_every_step_once_in_its_events() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let (more, began) = (["--set", "max_steps=40"], Instant::now());
    let mut command = command(&arguments(&run, &more));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count() < 3 {
        assert!(began.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    bpo(&["report", arg(&run)]).succeeded();
    assert!(fs::read_to_string(run.join("report.html")).unwrap().contains(" of 40."));
    train(&run, &more).succeeded();
    assert_eq!(logged(&run), ((1..=40).collect(), 1));
}

#[test]
fn text_of_models_and_data_stays_text() {
    let row = |i| format!("{{\"prompt\":\"Owl {i} </p><script>alert(1)</script> saw \\u001b[2J a bee.\"}}\n");
    let (dir, prompts) = file("prompts.jsonl", &(0..40).map(row).collect::<String>());
    let run = dir.path().join("run");
    let trained = train(&run, &["--set", &format!("prompts={}", arg(&prompts))]);
    trained.succeeded();
    assert!(trained.stdout.contains("<script>alert(1)"), "a held-out prompt: {}", trained.stdout);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script") && !page.contains('\u{1b}'));
    assert!(!trained.stdout.contains('\u{1b}'));
    fs::write(&prompts, "{\"prompt\":\"Something else.\"}\n").unwrap();
    bpo(&["report", arg(&run)]).succeeded();
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("prompt's text is not known") && !page.contains("Something else."));
}

#[test]
fn what_is_no_run_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    bpo(&["report", arg(dir.path())]).refused(4, &["recipe.toml"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::write(dir.path().join("recipe.toml"), "beta = 0.1\n").unwrap();
    fs::write(dir.path().join("metrics.jsonl"), "{\"step\":1,\"loss\":0.5}\noops\n").unwrap();
    bpo(&["report", arg(dir.path())]).refused(4, &["metrics.jsonl", "line 2"]);
    fs::write(dir.path().join("metrics.jsonl"), "{\"step\":1,\"loss\":0.5}\n{\"st").unwrap();
    let out = dir.path().join("page.html");
    bpo(&["report", arg(dir.path()), "--output", arg(&out)]).succeeded();
    assert!(fs::read_to_string(&out).unwrap().contains("Steps so far: 1."));
    assert!(!dir.path().join("lock").exists(), "looking takes no lock");
    bpo(&["report", arg(dir.path()), "--output", "/nowhere/page.html"]).refused(3, &["/nowhere/page.html"]);
}
