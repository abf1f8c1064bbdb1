//! Files of a run that are no longer what was written.
use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::{TempDir, tempdir};

use super::run::{Procedure, artefacts, assert_same, files, plain};
use crate::cli::bpo::Run;

/// A run with all of its records but the last ones, as a kill leaves it: checkpoints of steps 2 and 4 of 6.
struct Cut {
    dir: TempDir,
    procedure: Procedure,
    whole: std::collections::BTreeMap<String, Vec<u8>>,
}

impl Cut {
    fn new() -> Self {
        let (dir, procedure) = (tempdir().unwrap(), plain());
        let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
        procedure.run(&whole).succeeded();
        // The sets that a killed run has are those that the whole one has had; it is stopped to have them.
        let mut child = procedure.spawn(&cut);
        while !cut.join("checkpoints/step-00000004").exists() {
            assert!(child.try_wait().unwrap().is_none(), "ended before its second checkpoint");
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Whatever else it had come to, its records are now those of the whole run.
        for (name, bytes) in files(&whole) {
            if name == "journal.bin" || name == "metrics.jsonl" {
                write(&cut.join(name), &bytes);
            }
        }
        fs::remove_dir_all(cut.join("checkpoints/step-00000006")).unwrap_or_default();
        let whole = artefacts(&whole);
        Self { dir, procedure, whole }
    }

    fn run(&self) -> PathBuf {
        self.dir.path().join("cut")
    }

    /// Runs on after `change`, on a copy.
    fn after(&self, name: &str, change: impl FnOnce(&Path)) -> (PathBuf, Run) {
        let run = self.dir.path().join(name);
        for (name, bytes) in files(&self.run()) {
            write(&run.join(name), &bytes);
        }
        change(&run);
        let ended = self.procedure.run(&run);
        (run, ended)
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn flip(at: usize) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| bytes[at] ^= 0x20
}

/// Its name, and what it does to a set's folder.
type Damage = (&'static str, fn(&Path));

/// Row 6, by the whole binary.
#[test]
fn a_damaged_checkpoint_is_set_aside_with_a_word_and_the_one_before_is_used() {
    let cut = Cut::new();
    let newest = |run: &Path| run.join("checkpoints/step-00000004");
    let damages: [Damage; 7] = [
        ("flipped", |set| edit(&set.join("policy-0.safetensors"), flip(99))),
        ("truncated", |set| edit(&set.join("adam_second-0.safetensors"), |bytes| bytes.truncate(1000))),
        ("missing", |set| fs::remove_file(set.join("behaviour.safetensors")).unwrap()),
        ("extra", |set| fs::write(set.join("policy-1.safetensors"), "").unwrap()),
        ("no manifest", |set| fs::remove_file(set.join("manifest.json")).unwrap()),
        ("empty manifest", |set| fs::write(set.join("manifest.json"), "").unwrap()),
        ("another's manifest", |set| {
            fs::copy(set.with_file_name("step-00000002").join("manifest.json"), set.join("manifest.json")).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let (run, ended) = cut.after(name, |run| damage(&newest(run)));
        ended.succeeded();
        let told = "a damaged checkpoint (step 4) was set aside: ";
        assert!(ended.stderr.contains(told) && ended.stderr.contains("continuing after step 2"), "{}", ended.stderr);
        assert!(run.join("quarantine/step-00000004").is_dir());
        fs::remove_dir_all(run.join("quarantine")).unwrap();
        assert_same(&run, &cut.whole, name);
    }
}

#[test]
fn without_an_intact_checkpoint_a_run_ends_with_4_as_often_as_it_is_tried() {
    let cut = Cut::new();
    let (run, ended) = cut.after("both", |run| {
        for set in ["step-00000002", "step-00000004"] {
            fs::write(run.join("checkpoints").join(set).join("manifest.json"), "").unwrap();
        }
    });
    let words = ["no intact checkpoint is left", "checkpoints", "quarantine"];
    ended.refused(4, &words);
    cut.procedure.run(&run).refused(4, &words);
}

/// Row 7, by the whole binary.
#[test]
fn a_torn_journal_is_cut_a_damaged_one_ends_the_run_with_4_and_its_offset() {
    let cut = Cut::new();
    let journal = fs::read(cut.run().join("journal.bin")).unwrap();
    let records: Vec<usize> = (0..journal.len() - 4).filter(|&at| &journal[at..at + 4] == b"BPOr").collect();
    let last = records.len() - 1;
    // The last record is the evaluation at the end, those before it are of the sixth and the fifth step.
    for (name, length) in [
        ("within the last", records[last] + 40),
        ("after the last's head", records[last] + 10),
        ("between two", records[last]),
        ("within the one before", records[last] - 1),
        ("three back", records[last - 2] + 5),
    ] {
        let (run, ended) = cut.after(name, |run| edit(&run.join("journal.bin"), |bytes| bytes.truncate(length)));
        ended.succeeded();
        assert_same(&run, &cut.whole, name);
    }
    for at in [records[1] + 30, records[2] + 6, records[last - 1] + 3] {
        let (_, ended) = cut.after(&format!("damaged at {at}"), |run| edit(&run.join("journal.bin"), flip(at)));
        let begin = records.iter().rfind(|begin| **begin <= at).unwrap();
        ended.refused(4, &["journal.bin", &format!("offset {begin}:"), "damaged"]);
    }
}

#[test]
fn a_journal_that_ends_before_the_checkpoint_asks_nothing_again() {
    let cut = Cut::new();
    let words = ["journal.bin ends before step 4", "restore the journal", "older one"];
    let journal = fs::read(cut.run().join("journal.bin")).unwrap();
    let records: Vec<usize> = (0..journal.len() - 4).filter(|&at| &journal[at..at + 4] == b"BPOr").collect();
    let (_, ended) = cut.after("gone", |run| fs::remove_file(run.join("journal.bin")).unwrap());
    ended.refused(4, &words);
    let (_, ended) = cut.after("emptied", |run| fs::write(run.join("journal.bin"), "").unwrap());
    ended.refused(4, &words);
    let (run, ended) =
        cut.after("an older one", |run| edit(&run.join("journal.bin"), |bytes| bytes.truncate(records[6])));
    ended.refused(4, &words);
    // As it says.
    fs::rename(run.join("checkpoints/step-00000004"), run.with_file_name("aside")).unwrap();
    cut.procedure.run(&run).succeeded();
    assert_same(&run, &cut.whole, "an older journal and an older checkpoint");
}

#[test]
fn what_else_is_damaged_in_a_run_is_named() {
    let cut = Cut::new();
    let refused = |name: &str, words: &[&str], change: &dyn Fn(&Path)| {
        let (_, ended) = cut.after(name, change);
        ended.refused(4, words);
    };
    refused("metrics", &["metrics.jsonl, line 2"], &|run| {
        edit(&run.join("metrics.jsonl"), |bytes| {
            let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            bytes[second] = b'?';
        });
    });
    refused("no recipe", &["recipe.toml is missing"], &|run| fs::remove_file(run.join("recipe.toml")).unwrap());
    refused("no inputs", &["inputs.json is missing"], &|run| fs::remove_file(run.join("inputs.json")).unwrap());
    refused("inputs", &["inputs.json", "damaged"], &|run| fs::write(run.join("inputs.json"), "{").unwrap());
    refused("not a journal", &["journal.bin is not a journal"], &|run| {
        fs::write(run.join("journal.bin"), "{\"step\": 1}\n").unwrap();
    });
}
