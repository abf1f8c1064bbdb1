//! `bpo compare` as its users run it: a small grid on the embedded model, killed, interrupted, misused.
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::tempdir;

use super::bpo::{Run, arg, bpo, file, json};

/// Two methods, two seeds, two steps.
pub const GRID: &str = "\
seeds = 2
[base]
references = \"embedded\"
max_steps = 2
per_device_train_batch_size = 2
max_new_tokens = 8
eval_size = 4
lora_dropout = 0.0
learning_rate = 1e-3
[[method]]
name = \"offline DPO\"
collection_phases = 1
reference = \"initial\"
[[method]]
name = \"BPO, F=2\"
collection_phases = 2
";

fn compare(grid: &Path, dir: &Path, more: &[&str]) -> Run {
    bpo(&[&["compare", arg(grid), "--run-dir", arg(dir)], more].concat())
}

fn spawn(grid: &Path, dir: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpo"));
    command.args(["compare", arg(grid), "--jobs", "1", "--run-dir", arg(dir)]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn finished(dir: &Path) -> Vec<PathBuf> {
    let cells = ["offline-dpo/seed-1", "bpo-f-2/seed-1", "offline-dpo/seed-2", "bpo-f-2/seed-2"];
    let reports = cells.map(|cell| dir.join("cells").join(cell).join("finished.json"));
    reports.into_iter().filter(|report| report.exists()).collect()
}

fn wait_for(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(120), "not within two minutes");
        sleep(Duration::from_millis(5));
    }
}

/// What must not depend on how often the comparison was cut short.
pub fn results(dir: &Path) -> Value {
    fn without_seconds(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("seconds");
                map.values_mut().for_each(without_seconds);
            }
            Value::Array(list) => list.iter_mut().for_each(without_seconds),
            _ => {}
        }
    }
    let mut value = json(&dir.join("results.json"));
    without_seconds(&mut value);
    value
}

#[test]
fn a_grid_is_run_tabulated_and_drawn_and_finished_cells_are_left_alone() {
    let (dir, grid) = file("grid.toml", GRID);
    let run = dir.path().join("run");
    let plan = compare(&grid, &run, &["--plan"]);
    plan.succeeded();
    assert_eq!(plan.stdout.matches("new ").count(), 4, "{}", plan.stdout);
    assert!(plan.stdout.contains("BPO, F=2: collection_phases = 2, reference = behaviour"), "{}", plan.stdout);
    assert!(!run.exists());

    let whole = compare(&grid, &run, &[]);
    whole.succeeded();
    assert!(whole.stdout.contains("BPO, F=2") && whole.stdout.contains("of 2 seeds"), "{}", whole.stdout);
    let read = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    assert_eq!(read("results.csv").lines().count(), 5);
    assert!(read("results.csv").contains("\"BPO, F=2\",1,2,"), "{}", read("results.csv"));
    let markdown = read("results.md");
    for figure in ["win_rate.svg", "win_rate_kl.svg", "length.svg", "distinct.svg"] {
        assert!(markdown.contains(&format!("({figure})")), "{markdown}");
        assert!(read(figure).starts_with("<svg ") && read(figure).contains("BPO, F=2"), "{figure}");
    }
    assert!(markdown.contains("bpo compare /") && markdown.contains("`collection_phases`"), "{markdown}");

    let reports = finished(&run);
    let times = || reports.iter().map(|report| report.metadata().unwrap().modified().unwrap()).collect::<Vec<_>>();
    let (before, first) = (times(), results(&run));
    let again = compare(&grid, &run, &["--json"]);
    assert_eq!((before.len(), &before), (4, &times()));
    assert_eq!(again.rows(), [json(&run.join("results.json"))]);
    assert_eq!(results(&run), first);
    assert_eq!(compare(&grid, &run, &["--plan", "--json"]).rows()[3]["state"], "finished");

    let single = compare(&grid, &run, &["--seeds", "2,"]);
    single.refused(2, &["--seeds", "no seed"]);
    let single = compare(&grid, &run, &["--seeds", "1"]);
    single.succeeded();
    assert!(single.stdout.contains("1 seed,") && single.stdout.contains("bootstrap"), "{}", single.stdout);

    compare(&grid, &run, &["--set", "beta=0.3"]).refused(2, &["offline DPO, seed 1", "beta: 0.1 there, 0.3 now"]);
    assert_eq!(before, times());
}

#[test]
fn a_grid_killed_with_signal_9_goes_on_to_the_results_of_an_uninterrupted_one() {
    let (dir, grid) = file("grid.toml", GRID);
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    compare(&grid, &whole, &[]).succeeded();
    for cells in 0..3 {
        // The cell that outlives its comparison is waited for by the next one.
        let mut child = spawn(&grid, &cut);
        wait_for(|| finished(&cut).len() > cells);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    compare(&grid, &cut, &[]).succeeded();
    assert_eq!(results(&cut), results(&whole));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_130_once_the_running_cell_has_ended() {
    let (dir, grid) = file("grid.toml", GRID);
    let run = dir.path().join("run");
    let mut child = spawn(&grid, &run);
    wait_for(|| run.join("cells/offline-dpo/seed-1.toml").exists());
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!((1..4).contains(&finished(&run).len()) && !run.join("results.json").exists());
    compare(&grid, &run, &[]).succeeded();
}

#[test]
fn a_failing_cell_ends_the_grid_with_its_message_and_its_exit_code() {
    let (dir, grid) = file("grid.toml", GRID);
    let run = dir.path().join("run");
    let failing = compare(&grid, &run, &["--set", "prompts=/nowhere.jsonl", "--jobs", "1"]);
    failing.refused(3, &["offline DPO, seed 1", "/nowhere.jsonl"]);
    assert!(finished(&run).is_empty() && !run.join("cells/bpo-f-2").exists());
    compare(&grid, &run, &["--device", "abacus"]).refused(2, &["offline DPO, seed 1", "abacus"]);
}

#[test]
fn a_grid_without_one_budget_is_refused_before_anything_is_written() {
    let (dir, grid) = file("grid.toml", &GRID.replace("collection_phases = 2", "gradient_accumulation_steps = 2"));
    let run = dir.path().join("run");
    compare(&grid, &run, &[]).refused(2, &["\"offline DPO\" has 8 responses judged", "\"BPO, F=2\" 16 responses"]);
    compare(&dir.path().join("nowhere.toml"), &run, &[]).refused(3, &["nowhere.toml"]);
    assert!(!run.exists());
}

#[test]
fn two_comparisons_cannot_have_one_folder() {
    let (dir, grid) = file("grid.toml", GRID);
    let run = dir.path().join("run");
    let mut child = spawn(&grid, &run);
    wait_for(|| run.join("cells").exists());
    compare(&grid, &run, &[]).refused(4, &[&child.id().to_string()]);
    child.wait().unwrap();
    assert_eq!(finished(&run).len(), 4);
    let stranger = tempdir().unwrap();
    std::fs::write(stranger.path().join("thesis.tex"), "").unwrap();
    compare(&grid, stranger.path(), &[]).refused(4, &["thesis.tex"]);
}
