//! `bpo train` as its users run it: whole runs on the embedded model, killed, interrupted, misused.
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::tempdir;

use super::bpo::{arg, bpo};

/// A short run of the default recipe.
const SHORT: [&str; 10] = [
    "--set",
    "max_steps=6",
    "--set",
    "per_device_train_batch_size=4",
    "--set",
    "max_new_tokens=16",
    "--set",
    "eval_size=4",
    "--set",
    "save_steps=2",
];

fn train(dir: &Path, more: &[&str]) -> super::bpo::Run {
    bpo(&[&["train", "--run-dir", arg(dir)], &SHORT[..], more].concat())
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpo"));
    command.args(["train", "--run-dir", arg(dir)]).args(SHORT).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn spawn(dir: &Path) -> Child {
    command(dir).spawn().unwrap()
}

fn adapter(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("adapter/adapter_model.safetensors")).unwrap()
}

/// Waits until the run has logged `steps` steps.
fn wait_for_steps(dir: &Path, steps: usize) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(120) {
        let logged = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
        if logged.lines().count() >= steps {
            return;
        }
        sleep(Duration::from_millis(5));
    }
    panic!("no step {steps} within two minutes");
}

#[test]
fn a_run_killed_with_signal_9_ends_in_the_bytes_of_an_uninterrupted_one() {
    let dir = tempdir().unwrap();
    let whole = dir.path().join("whole");
    train(&whole, &[]).succeeded();
    for (steps, delay) in [(0, 30), (1, 0), (2, 15), (3, 40), (5, 0)] {
        let cut = dir.path().join(format!("cut-{steps}"));
        let mut child = spawn(&cut);
        wait_for_steps(&cut, steps);
        sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        train(&cut, &[]).succeeded();
        assert!(adapter(&cut) == adapter(&whole), "killed after step {steps}");
    }
}

/// What there is more to restore of an ensemble with a reference of its own and pairs that are used again.
#[test]
fn a_killed_ensemble_ends_in_the_bytes_of_an_uninterrupted_one() {
    let row = |i| format!("{{\"prompt\":\"A small owl named Otto saw {i} bees\"}}\n");
    let (dir, prompts) = super::bpo::file("prompts.jsonl", &(0..12).map(row).collect::<String>());
    let whole = dir.path().join("whole");
    let prompts = format!("prompts={}", arg(&prompts));
    let sets =
        ["ensemble_size=2", "reference=ema", "ref_model_sync_steps=2", "regenerate_fraction=0.5", "eval_steps=2"];
    let sets: Vec<&str> = sets.into_iter().chain([prompts.as_str()]).flat_map(|set| ["--set", set]).collect();
    train(&whole, &sets).succeeded();
    for steps in [1, 4] {
        let cut = dir.path().join(format!("cut-{steps}"));
        let mut child = command(&cut).args(&sets).spawn().unwrap();
        wait_for_steps(&cut, steps);
        child.kill().unwrap();
        child.wait().unwrap();
        train(&cut, &sets).succeeded();
        let bytes = |run: &Path, name: &str| std::fs::read(run.join(name)).unwrap();
        for name in ["adapter", "members/0/adapter", "members/1/adapter"] {
            let name = format!("{name}/adapter_model.safetensors");
            assert!(bytes(&cut, &name) == bytes(&whole, &name), "{name}, killed after step {steps}");
        }
    }
}

#[test]
fn an_ensemble_goes_on_from_the_adapters_of_another() {
    let dir = tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let short = ["--set", "max_steps=1", "--set", "ensemble_size=2"];
    train(&first, &[&short[..], &["--set", "learning_rate=1e-2"]].concat()).succeeded();
    let members = [0, 1].map(|index| first.join(format!("members/{index}/adapter")));
    let set = format!("adapter=[{:?}, {:?}]", arg(&members[0]), arg(&members[1]));
    train(&second, &[&short[..], &["--set", &set, "--set", "learning_rate=0"]].concat()).succeeded();
    let bytes = |adapter: &Path| std::fs::read(adapter.join("adapter_model.safetensors")).unwrap();
    for (index, member) in members.iter().enumerate() {
        assert!(bytes(member) == bytes(&second.join(format!("members/{index}/adapter"))), "member {index}");
    }
    let one = format!("adapter={}", arg(&members[0]));
    let refused = train(&dir.path().join("third"), &[&short[..], &["--set", &one]].concat());
    refused.refused(2, &["ensemble_size = 2", "1 adapters"]);
}

#[test]
fn what_is_known_to_go_wrong_is_said_before_it_does() {
    let dir = tempdir().unwrap();
    let run = train(&dir.path().join("run"), &["--set", "max_steps=2", "--set", "collection_phases=T"]);
    run.succeeded();
    assert!(run.stderr.contains("rho is 0") && run.stderr.contains("ensemble_size"), "{}", run.stderr);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_130_and_the_same_command_goes_on() {
    let dir = tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    train(&whole, &[]).succeeded();
    let mut child = spawn(&cut);
    wait_for_steps(&cut, 1);
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    train(&cut, &[]).succeeded();
    assert!(adapter(&cut) == adapter(&whole));
}

#[test]
fn a_finished_run_is_left_alone_and_another_recipe_is_refused_key_by_key() {
    let dir = tempdir().unwrap();
    let run = dir.path().join("run");
    train(&run, &[]).succeeded();
    let before = adapter(&run);
    let again = train(&run, &[]);
    assert!(again.stdout.contains("finished"), "{}", again.stdout);
    assert_eq!(before, adapter(&run));
    train(&run, &["--set", "beta=0.3"]).refused(2, &["beta", "0.1", "0.3"]);
}

#[test]
fn two_processes_cannot_have_one_run_directory() {
    let dir = tempdir().unwrap();
    let run = dir.path().join("run");
    let start = || {
        let mut long = command(&run);
        long.args(["--set", "max_steps=100000"]).stderr(Stdio::piped()).spawn().unwrap()
    };
    for race in 0..10 {
        let mut racers = [start(), start()];
        let began = Instant::now();
        let loser = loop {
            assert!(began.elapsed() < Duration::from_secs(120), "race {race}: both go on");
            let ended = racers.iter_mut().position(|racer| racer.try_wait().unwrap().is_some());
            if let Some(loser) = ended {
                break loser;
            }
            sleep(Duration::from_millis(1));
        };
        let [one, other] = racers;
        let (lost, mut won) = if loser == 0 { (one, other) } else { (other, one) };
        let lost = lost.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&lost.stderr).into_owned();
        assert_eq!(lost.status.code(), Some(4), "race {race}: {said}");
        assert!(said.contains(&format!("is in use by process {}", won.id())), "race {race}: {said}");
        assert!(won.try_wait().unwrap().is_none(), "race {race}: both have ended");
        won.kill().unwrap();
        won.wait().unwrap();
    }
}

#[test]
fn what_is_wrong_in_a_recipe_is_named() {
    let dir = tempdir().unwrap();
    let run = dir.path().join("run");
    for (set, code, words) in [
        ("betta=0.1", 2, &["betta", "beta"][..]),
        ("beta=-1", 2, &["beta"]),
        ("loss_type=dpo", 2, &["loss_type", "sigmoid"]),
        ("collection_phases=0", 2, &["collection_phases"]),
        ("reference=every:0", 2, &["reference", "every:N"]),
        ("ensemble_merge=svd", 2, &["ensemble_merge", "svd:16"]),
        ("pair_selection=ucb", 2, &["pair_selection", "ucb_sec_ucb"]),
        ("loss_type='expr: sigmod(rho)'", 2, &["sigmoid"]),
        ("loss_weights=[1, 2]", 2, &["loss_type names 1 losses", "2 numbers"]),
        ("ucb_gamma=2.0", 2, &["ucb_gamma has no effect"]),
        ("pairs=/nowhere.jsonl", 3, &["/nowhere.jsonl"]),
        ("adapter=/nowhere", 3, &["/nowhere"]),
        ("model=/nowhere", 3, &["/nowhere"]),
        ("prompts=/nowhere.jsonl", 3, &["/nowhere.jsonl"]),
        ("annotator=/nowhere.txt", 3, &["/nowhere.txt"]),
        ("annotator=/nowhere/model", 3, &["/nowhere/model"]),
        ("lora_target_modules=['nowhere']", 2, &["nowhere", "q_proj"]),
    ] {
        train(&run, &["--set", set]).refused(code, words);
    }
    train(&run, &["--set", "max_steps=1"]).succeeded();
}

#[test]
fn a_run_goes_on_with_the_inputs_it_began_with() {
    let dir = tempdir().unwrap();
    let (run, prompts) = (dir.path().join("run"), dir.path().join("prompts.jsonl"));
    let rows: String = (0..40).map(|i| format!("{{\"prompt\":\"A small owl named Otto saw {i} bees\"}}\n")).collect();
    std::fs::write(&prompts, &rows).unwrap();
    let sets = format!("prompts={}", arg(&prompts));
    let mut child = command(&run).args(["--set", &sets]).spawn().unwrap();
    wait_for_steps(&run, 2);
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::write(&prompts, rows.replace("bees", "dogs")).unwrap();
    train(&run, &["--set", &sets]).refused(2, &["prompts changed since this run was started", "another --run-dir"]);
    std::fs::write(&prompts, rows).unwrap();
    train(&run, &["--set", &sets]).succeeded();
    std::fs::write(run.join("recipe.toml"), "beta = = 1").unwrap();
    train(&run, &["--set", &sets]).refused(4, &["recipe.toml", "damaged"]);
}

#[test]
fn the_built_in_references_do_not_leak_into_runs_on_other_prompts() {
    let dir = tempdir().unwrap();
    let (_prompts, file) = super::bpo::file("p.jsonl", &"{\"prompt\":\"A small owl\"}\n".repeat(9));
    let sets = format!("prompts={}", arg(&file));
    let run = |name: &str, more: &[&str]| {
        let folder = dir.path().join(name);
        let run = train(&folder, &[&["--set", "max_steps=1", "--set", &sets], more].concat());
        run.succeeded();
        (std::fs::read_to_string(folder.join("recipe.toml")).unwrap(), run.stderr)
    };
    let (recipe, told) = run("a", &["--set", "eval_size=0"]);
    assert!(!recipe.contains("references") && told.contains("built-in references"), "{recipe} {told}");
    let (recipe, told) = run("b", &["--set", "references=embedded"]);
    assert!(recipe.contains("references = \"embedded\"") && !told.contains("built-in references"), "{recipe} {told}");
}

/// The command annotator dies after a few questions: exit 5, and with a living one the run goes on.
#[test]
fn an_annotator_that_dies_ends_the_run_with_5_and_loses_nothing() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: an_annotator_that_dies_ends_the_run_with_5_and_loses_nothing: no python3");
        return;
    }
    let dir = tempdir().unwrap();
    let judge = dir.path().join("judge.py");
    let code = "import json, os, sys\n\
        left = 20 if os.path.exists('mortal') else 10**9\n\
        for line in sys.stdin:\n    \
            left -= 1\n    \
            if left < 0: sys.exit('out of budget')\n    \
            row = json.loads(line)\n    \
            print(json.dumps({'id': row['id'], 'score': len(row['response'])}), flush=True)\n";
    std::fs::write(&judge, code).unwrap();
    std::fs::write(dir.path().join("mortal"), "").unwrap();
    let command = format!(
        "annotator={{ kind = \"command\", program = [\"python3\", \"judge.py\"], mode = \"score\", cwd = {:?} }}",
        arg(dir.path())
    );
    let run = dir.path().join("run");
    train(&run, &["--set", &command]).refused(5, &["out of budget"]);
    std::fs::remove_file(dir.path().join("mortal")).unwrap();
    train(&run, &["--set", &command]).succeeded();
}

fn story() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/story")
}

#[test]
fn an_exported_model_gets_the_tokenizer_it_was_trained_with() {
    let dir = tempdir().unwrap();
    let (run, tokenizer) = (dir.path().join("run"), dir.path().join("tokenizer"));
    std::fs::create_dir(&tokenizer).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(story().join(name), tokenizer.join(name)).unwrap();
    }
    std::fs::write(tokenizer.join("special_tokens_map.json"), "{}").unwrap();
    let sets = format!("tokenizer={}", arg(&tokenizer));
    train(&run, &["--set", &sets, "--set", "max_steps=1", "--set", "use_peft=false"]).succeeded();
    assert!(run.join("model/special_tokens_map.json").is_file());
    assert!(run.join("model/tokenizer.json").is_file());
}

#[test]
fn supervised_runs_are_not_bound_by_a_failed_start_and_go_on_with_their_data() {
    let dir = tempdir().unwrap();
    let (run, data) = (dir.path().join("run"), dir.path().join("rows.jsonl"));
    let row = |word: &str| format!("{{\"prompt\":\"A small owl\",\"completion\":\" was {word}.\"}}\n").repeat(8);
    std::fs::write(&data, row("glad")).unwrap();
    let sft = |data: &Path, steps: &str| {
        let (data, steps) = (format!("data={}", arg(data)), format!("max_steps={steps}"));
        let args = ["sft", "--run-dir", arg(&run), "--set", "model=embedded", "--set", &data, "--set", &steps];
        bpo(&[&args[..], &["--set", "save_steps=1"]].concat())
    };
    sft(Path::new("/nowhere.jsonl"), "2").refused(3, &["/nowhere.jsonl"]);
    sft(&data, "2").succeeded();
    std::fs::remove_file(run.join("finished.json")).unwrap();
    std::fs::write(&data, row("sad")).unwrap();
    sft(&data, "2").refused(2, &["data changed"]);
    sft(&data, "3").refused(2, &["max_steps: 2 there, 3 now"]);
}
