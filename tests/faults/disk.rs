//! Disks that are full, folders that cannot be written to, and what is found before a model is loaded.
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::tempdir;

use super::run::{artefacts, assert_same, plain};
use crate::cli::bpo::arg;

/// Loading this model would be exit 3: whatever is found before is found in time.
const NO_MODEL: &str = "model=/nowhere";

#[test]
fn a_folder_that_cannot_be_a_run_is_refused_before_the_model_is_loaded() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "thesis").unwrap();
    let stranger = dir.path().join("stranger");
    fs::create_dir(&stranger).unwrap();
    fs::write(stranger.join("thesis.tex"), "").unwrap();
    let run = plain().with(&[NO_MODEL]);
    run.run(&file).refused(4, &[arg(&file), "is not a folder"]);
    run.run(&file.join("below")).refused(4, &[arg(&file.join("below"))]);
    run.run(&stranger).refused(4, &[arg(&stranger), "thesis.tex"]);
    if cfg!(target_os = "linux") {
        // Nobody can write there, the administrator included.
        run.run(Path::new("/proc/bpo-run")).refused(4, &["cannot create /proc/bpo-run"]);
        run.run(Path::new("/dev/full")).refused(4, &["/dev/full", "is not a folder"]);
    }
    assert_eq!(fs::read(&file).unwrap(), b"thesis");
    assert_eq!(fs::read_dir(&stranger).unwrap().count(), 1);
}

/// Runs a script with the binary as `$1` and a folder as `$2`.
fn script(lines: &str, program: &str, before: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(before).args(["-c", lines, "sh", env!("CARGO_BIN_EXE_bpo"), arg(dir)]).output().unwrap()
}

/// `bpo train` in a script: the settings of [`plain`] with full fine-tuning, whose checkpoints are larger.
const TRAIN: &str = "train() { \"$1\" train --quiet --run-dir \"$2\" --set max_steps=4 --set save_steps=1 \
    --set per_device_train_batch_size=2 --set max_new_tokens=8 --set eval_size=0 --set use_peft=false > /dev/null; }\n";

/// Row 5, by the size that files may have: more than the journal's, less than a checkpoint's.
#[cfg(unix)]
#[test]
fn a_file_that_may_not_grow_ends_a_run_with_4_and_its_name() {
    let dir = tempdir().unwrap();
    let (cut, whole) = (dir.path().join("cut"), dir.path().join("whole"));
    let limited = format!("{TRAIN}trap '' XFSZ; ulimit -f 64; train \"$1\" \"$2\"");
    let refused = script(&limited, "sh", &[], &cut);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("cannot write") && said.contains("checkpoints/") && said.contains(".safetensors"), "{said}");
    let free = format!("{TRAIN}train \"$1\" \"$2\"");
    for run in [&cut, &whole] {
        let ended = script(&free, "sh", &[], run);
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    assert_same(&cut, &artefacts(&whole), "after the limit");
}

/// Rows 5 and 22, by a file system that is full, or read-only, in a name space of its own.
#[test]
fn a_full_disk_and_a_read_only_one_end_a_run_with_4_and_lose_no_checkpoint() {
    const NAME: &str = "a_full_disk_and_a_read_only_one_end_a_run_with_4_and_lose_no_checkpoint";
    let dir = tempdir().unwrap();
    let (disk, whole) = (dir.path().join("disk"), dir.path().join("whole"));
    fs::create_dir(&disk).unwrap();
    let probe = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", arg(&disk)]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        println!("skipped: {NAME}: may not mount a file system");
        return;
    }
    let free = script(&format!("{TRAIN}train \"$1\" \"$2\""), "sh", &[], &whole);
    assert!(free.status.success());
    let set = |step: u64| -> u64 {
        let folder = whole.join(format!("checkpoints/step-{step:08}"));
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    // Room for one set and a half.
    let room = set(4) * 3 / 2 / 1024;
    let lines = format!(
        "{TRAIN}say() {{ echo \"$@\" >&2; }}\n\
         mount -t tmpfs -o size={room}k tmpfs \"$2\" || exit 9\n\
         train \"$1\" \"$2/run\"; say \"code $?\"; ls \"$2/run/checkpoints\" >&2\n\
         train \"$1\" \"$2/run\"; say \"code $?\"\n\
         head -c 100000000 /dev/zero > \"$2/rest\" 2> /dev/null\n\
         \"$1\" train --run-dir \"$2/new\" --set {NO_MODEL} > /dev/null; say \"code $?\"\n\
         rm \"$2/rest\"; mount -o remount,ro \"$2\"\n\
         \"$1\" train --run-dir \"$2/new\" --set {NO_MODEL} > /dev/null; say \"code $?\"\n\
         train \"$1\" \"$2/run\"; say \"code $?\"\n\
         mount -o remount,rw,size=1g \"$2\"\n\
         train \"$1\" \"$2/run\"; say \"code $?\"; cp -r \"$2/run\" \"$2-saved\""
    );
    let ended = script(&lines, "unshare", &["-rm", "sh"], &disk);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let codes: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("code ")).collect();
    assert_eq!(codes, ["4", "4", "4", "4", "4", "0"], "{said}");
    assert!(said.contains("No space left on device") && said.contains("checkpoints/"), "{said}");
    assert!(said.contains("step-00000001") && !said.contains("quarantine"), "the set before is intact: {said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert_same(&dir.path().join("disk-saved"), &artefacts(&whole), "after room was made");
}
